"""The code of a user behind Flask and its own server, as a tutorial leaves it.

    python -m tests.benchmarks.bench.plants.flask_app CODE

prints its port, and serves ``POST /predict`` on 127.0.0.1 until its standard input closes. ``CODE`` is JSON for
``users.make``, with two entries more: ``keep`` (connections are kept, true) and ``threaded`` (true).
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import threading
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler, make_server

from . import users


class Kept(WSGIRequestHandler):
    """Keeps connections, which Werkzeug does not do by itself."""

    protocol_version = "HTTP/1.1"


def main() -> None:
    code = json.loads(sys.argv[1])
    keep, threaded = code.pop("keep", True), code.pop("threaded", True)
    app = Flask("planted")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        model = users.make(code, Path(folder))

        @app.post("/predict")
        def predict() -> Response:
            return Response(json.dumps(model.predict(request.get_json())), mimetype="application/json")

        handler = Kept if keep else WSGIRequestHandler
        server = make_server("127.0.0.1", 0, app, threaded=threaded, request_handler=handler)

        def end_with_input() -> None:
            sys.stdin.read()
            server.shutdown()

        threading.Thread(target=end_with_input, daemon=True).start()
        print(server.port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
