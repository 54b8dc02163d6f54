"""What the clients of the chaos run ask for.

Each request is written down when it begins and when it ends, in one write to a file that is only appended to, so that
the run knows of each how often it was served, and by whom. The query has its id, and what it wants:

* /page: an answer that is known from the id
* /slow?ms=N: the same after N milliseconds
* /upload: the checksum of the body
* /stream?pieces=N&ms=N: pieces known from the id, with a pause between them
"""

import os
import time
import zlib
from urllib.parse import parse_qsl

JOURNAL = os.open(os.environ["CHAOS_JOURNAL"], os.O_WRONLY | os.O_APPEND)

PIECE = 4096


# So many bytes are kept of each request, as by an application that forgets nothing.
GROWTH = int(os.environ.get("CHAOS_GROWTH", 0))
KEPT = []


def note(what, request):
    os.write(JOURNAL, f"{what} {request} {os.getpid()}\n".encode())


def text(request, length):
    """The id again and again."""
    word = request.encode() + b"\n"
    return (word * (length // len(word) + 1))[:length]


def page(environ, query):
    yield text(query["id"], 1000)


def slow(environ, query):
    time.sleep(int(query["ms"]) / 1000)
    yield text(query["id"], 1000)


def upload(environ, query):
    sum = 0
    while piece := environ["wsgi.input"].read(65536):
        sum = zlib.crc32(piece, sum)
    yield f"{sum:08x}".encode()


def stream(environ, query):
    whole = text(query["id"], int(query["pieces"]) * PIECE)
    for start in range(0, len(whole), PIECE):
        yield whole[start : start + PIECE]
        time.sleep(int(query["ms"]) / 1000)


PAGES = {"page": page, "slow": slow, "upload": upload, "stream": stream}


def application(environ, start_response):
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    kind = path.rsplit("/", 1)[-1]
    note("begun", query["id"])
    if GROWTH:
        KEPT.append(os.urandom(GROWTH))
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield from PAGES[kind](environ, query)
    note("ended", query["id"])
