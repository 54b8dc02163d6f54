#!/usr/bin/python3
"""For apache-fcgid.conf: hands on what mod_fcgid sends to the pool that the argument names.

Descriptor 0 listens; mod_fcgid connects for each request anew, and has one request at a time for each process.
"""

import selectors
import socket
import sys


def connect(address):
    if address.startswith("/"):
        pool = socket.socket(socket.AF_UNIX)
        pool.connect(address)
        return pool
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, port))


def hand_on(server, pool):
    """Until either side leaves."""
    with selectors.DefaultSelector() as ready:
        ready.register(server, selectors.EVENT_READ, pool)
        ready.register(pool, selectors.EVENT_READ, server)
        while True:
            for key, _ in ready.select():
                part = key.fileobj.recv(65536)
                if not part:
                    return
                key.data.sendall(part)


listener = socket.socket(fileno=0)
while True:
    server, _ = listener.accept()
    try:
        with server, connect(sys.argv[1]) as pool:
            hand_on(server, pool)
    except OSError as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
