"""The health check of the image: exit code 0 when ``/ping`` returns 200.

It runs every few seconds beside the server, so it starts without site-packages and imports one module (11 ms).
"""

import os
import socket
import sys

PORT = int(os.environ.get("SLIPWAY_PORT") or os.environ.get("SAGEMAKER_BIND_TO_PORT") or 8080)


def tls(plain: socket.socket) -> socket.socket:
    """The connection as the server speaks: with TLS where the variable names a certificate, which is not verified."""
    if not os.environ.get("SLIPWAY_TLS_CERT"):
        return plain
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


try:
    with socket.create_connection(("127.0.0.1", PORT), timeout=2) as plain, tls(plain) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head = connection.makefile("rb").readline()
except OSError as error:
    sys.exit(f"port {PORT}: {error}")
if head.split()[1:2] != [b"200"]:
    sys.exit(f"port {PORT}: {head.decode('latin-1').strip() or 'closed without a response'}")
