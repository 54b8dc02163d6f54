"""The application of most tests. Everything it does is checked against PEP 3333 by the standard library's validator.

    /pid            the worker's pid
    /mold           the pid of the process that imported this module
    /served         how many requests this process has answered
    /slow?ms=200    holds the worker for that time; answers with its pid
    /hold?ms=200    the same, and says "held" on standard error when it begins
    /echo           the length and the SHA-256 of the body
    /environ        the request's strings, one a line
    /variables      the process's environment variables, one a line
    /large?kib=64   that much body, in many parts
    /print?text=x   writes to standard output, standard error and wsgi.errors
    /grow?mib=64    keeps so much memory from now on; answers with the pid
    /raise          raises before it answers
    /raise-late     raises after the first part of the body
"""

import hashlib
import itertools
import os
import sys
import time
from urllib.parse import parse_qs
from wsgiref.validate import validator

IMPORTED_BY = os.getpid()
served = itertools.count(1)
kept = []


def probe(environ, start_response):
    count = next(served)
    path = environ.get("PATH_INFO", "")
    query = {name: values[-1] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}

    def answer(parts, status="200 OK"):
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return parts

    def text(words, status="200 OK"):
        return answer([f"{words}\n".encode()], status)

    if path == "/pid":
        return text(os.getpid())
    if path == "/mold":
        return text(IMPORTED_BY)
    if path == "/served":
        return text(f"{os.getpid()} {count}")
    if path == "/hold":
        print("held", file=sys.stderr, flush=True)
    if path in ("/slow", "/hold"):
        time.sleep(int(query.get("ms", "200")) / 1000)
        return text(os.getpid())
    if path == "/echo":
        digest, length = hashlib.sha256(), 0
        while part := environ["wsgi.input"].read(65536):
            digest.update(part)
            length += len(part)
        return text(f"{length} {digest.hexdigest()}")
    if path == "/environ":
        strings = {name: value for name, value in environ.items() if isinstance(value, str)}
        return text("\n".join(f"{name}={value}" for name, value in sorted(strings.items())))
    if path == "/variables":
        return text("\n".join(f"{name}={value}" for name, value in sorted(os.environ.items())))
    if path == "/large":
        return answer(b"x" * 1024 for _ in range(int(query["kib"])))
    if path == "/print":
        print("out:", query["text"], flush=True)
        print("err:", query["text"], file=sys.stderr, flush=True)
        environ["wsgi.errors"].write(f"wsgi: {query['text']}\n")
        environ["wsgi.errors"].flush()
        return text("printed")
    if path == "/grow":
        kept.append(b"x" * (int(query["mib"]) << 20))
        return text(os.getpid())
    if path == "/raise":
        raise LookupError("nothing to find here")
    if path == "/raise-late":
        return answer(raise_late())
    return text("no such page", "404 Not Found")


def raise_late():
    yield b"the first part\n"
    raise LookupError("found out late")


application = validator(probe)
