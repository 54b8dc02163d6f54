"""What the web servers' cases ask for. The standard library's validator looks at all of it but the file.

    /echo               whether the body is the pattern, and how long it is
    /pattern?bytes=n    so many bytes of the pattern
    /stream?until=name  a first part, and a second one when the file of that name is there
    /endless            parts without end; says "closed" on standard error when nobody wants more
    /status?is=204      an answer of that status, without a body
    /redirect           leads to another path of the site
    /file?name=n        the file of that name in the folder of the state, by wsgi.file_wrapper
    /raise              raises before it answers
    /raise-late?until=n the same, and raises in place of the second part
    all else            the request's strings, one a line, as Python writes them

The pattern's byte at n is n modulo 251.
"""

import os
import sys
import time
from urllib.parse import parse_qs
from wsgiref.validate import validator

BLOCK = bytes(range(251)) * 256
TWICE = BLOCK * 2
REASONS = {"204": "204 No Content", "304": "304 Not Modified"}


def application(environ, start_response):
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = {name: values[-1] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}

    def answer(parts, status="200 OK", headers=()):
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
        return parts

    if path == "/echo":
        length, same = 0, True
        while part := environ["wsgi.input"].read(len(BLOCK)):
            at = length % 251
            same = same and part == TWICE[at : at + len(part)]
            length += len(part)
        return answer([f"{length} {'same' if same else 'other'}".encode()])
    if path == "/pattern":
        wanted = int(query["bytes"])
        return answer(pattern(wanted), headers=[("Content-Length", str(wanted))])
    if path == "/stream":
        return answer(stream(query["until"]), headers=[("X-Accel-Buffering", "no")])
    if path == "/endless":
        return answer(endless(), headers=[("X-Accel-Buffering", "no")])
    if path == "/status":
        start_response(REASONS[query["is"]], [("ETag", '"as asked"')])
        return []
    if path == "/redirect":
        return answer([b"moved"], "302 Found", [("Location", "/elsewhere?a=b")])
    if path == "/raise":
        raise LookupError("nothing to find here")
    if path == "/raise-late":
        return answer(raise_late(query["until"]), headers=[("X-Accel-Buffering", "no")])
    strings = {name: value for name, value in environ.items() if isinstance(value, str)}
    lines = [f"{name}={value!r}\n" for name, value in sorted(strings.items())]
    return answer(["".join(lines).encode()])


def pattern(wanted):
    while wanted > 0:
        yield BLOCK[:wanted]
        wanted -= len(BLOCK)


def stream(name):
    yield b"first\n"
    for _ in range(1000):
        if os.path.exists(os.path.join(os.environ["STATE"], os.path.basename(name))):
            break
        time.sleep(0.005)
    yield b"second\n"


def raise_late(name):
    parts = stream(name)
    yield next(parts)
    next(parts)
    raise LookupError("found out late")


def endless():
    try:
        while True:
            yield b"more and more\n" * 64
            time.sleep(0.002)
    finally:
        print("closed", file=sys.stderr, flush=True)


checked = validator(application)


def application(environ, start_response):
    if environ["PATH_INFO"] != "/file":
        return checked(environ, start_response)
    name = parse_qs(environ["QUERY_STRING"])["name"][0]
    file = open(os.path.join(os.environ["STATE"], os.path.basename(name)), "rb")
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("X-Accel-Buffering", "no")])
    return environ["wsgi.file_wrapper"](file)
