"""flup's prefork server with a fixed number of workers: flup_server.py SOCKET APPLICATION WORKERS."""

import importlib
import sys

from flup.server.fcgi_fork import WSGIServer

socket, application, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
WSGIServer(
    importlib.import_module(application).application,
    bindAddress=socket,
    minSpare=workers,
    maxSpare=workers,
    maxChildren=workers,
).run()
