# Debian's Prometheus, in the place of the published image where no registry can be reached.
FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -q -y --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/* \
    && install -d -o nobody /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
