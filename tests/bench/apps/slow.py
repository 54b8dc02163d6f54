"""A page that holds its worker for 200 ms, as one does that waits for a database."""

import time


def application(environ, start_response):
    time.sleep(0.2)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world\n"]
