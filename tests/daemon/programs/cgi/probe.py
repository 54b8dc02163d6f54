#!/usr/bin/python3 -E
"""The pages of the programs, as a CGI script."""

import os
import shutil
import signal
import sys
import time
from urllib.parse import parse_qs

PATTERN = bytes((at * 7 + at // 256) % 251 for at in range(65521))
out, body = sys.stdout.buffer, sys.stdin.buffer
page = os.environ["DOCUMENT_URI"].rpartition("/")[2]
query = parse_qs(os.environ.get("QUERY_STRING", ""))


def number(name):
    return int(query.get(name, ["0"])[0])


def complain(text):
    print(text, file=sys.stderr, flush=True)


if page == "crash":
    complain("about to crash")
    os.kill(os.getpid(), signal.SIGSEGV)
if page == "exit":
    complain("about to exit")
    sys.exit(number("status"))
if page == "teapot":
    out.write(b"Status: 418 I'm a teapot\r\nContent-Type: text/plain\r\n\r\nshort and stout\n")
    sys.exit()
if page == "no-headers":
    out.write(b"just text, no header\n")
    sys.exit(3)
if page == "nph":
    out.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello")
    sys.exit()
if page == "endless-headers":
    while True:
        out.write(b"X-Header: and on and on\r\n" * 1000)
if page == "short":
    out.write(b"Content-Type: text/plain\r\nContent-Length: 1000\r\n\r\nnot that much")
    sys.exit()
out.write(b"Content-Type: application/octet-stream\r\n\r\n")
if page == "show":
    for name in ["REQUEST_METHOD", "QUERY_STRING", "CONTENT_LENGTH", "HTTP_HOST", "HTTP_PROXY", "REMOTE_ADDR"]:
        print(f"{name}={os.environ.get(name, '')}")
elif page == "environment":
    for name, value in os.environ.items():
        print(f"{name}={value}")
    print(f"working directory: {os.getcwd()}, arguments: {sys.argv[1:]}, descriptors: {sorted(os.listdir('/proc/self/fd'))}")
elif page == "pid":
    print(os.getpid(), end="")
elif page == "echo":
    shutil.copyfileobj(body, out, 65536)
elif page == "store":
    out.write(body.read())
elif page == "count":
    count = 0
    while piece := body.read(65536):
        count += len(piece)
    print(count, end="")
elif page == "make":
    left = number("bytes")
    while left > 0:
        out.write(PATTERN[:left])
        left -= len(PATTERN)
elif page == "slow":
    time.sleep(number("ms") / 1000)
    print("slept", end="")
elif page == "complain":
    complain("a word on the program's stderr")
    complain("a word on the request's stderr")
    print("complained", end="")
elif page == "halfway":
    out.write(b"x" * 100_000)
    out.flush()
    os.kill(os.getpid(), signal.SIGSEGV)
elif page == "late-complaint":
    # The answer first, then 3 MB of complaints, before any of the body is read.
    print("answered", end="", flush=True)
    complain("x" * 3_000_000)
    body.read()
elif page == "deaf":
    # Neither reads its body nor leaves it.
    print("deaf", end="")
elif page == "closes":
    print("closed", end="", flush=True)
    os.close(1)
    time.sleep(0.3)
    complain("closed, and done")
    os._exit(0)
elif page == "goes-on":
    # With its answer whole, for as long as the file is there.
    print("closed", end="", flush=True)
    os.close(1)
    while os.path.exists(query["file"][0]):
        time.sleep(0.01)
    complain("closed, and done")
    os._exit(0)
elif page == "leaves-noise":
    # Others fill standard error, at once whenever there is room, for as long as the file is there.
    heard, begun = os.pipe()
    if any(os.fork() == 0 for _ in range(4)):
        os.setsid()
        os.set_blocking(2, False)
        noise = (b"noise " * 10 + b"\n") * 1000
        os.write(begun, b".")
        while os.path.exists(query["file"][0]):
            for _ in range(1000):
                try:
                    os.write(2, noise)
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    os._exit(0)
        os._exit(0)
    os.read(heard, 1)
    print("answered", end="", flush=True)
    os._exit(0)
elif page == "leaves-a-child":
    # Another process holds standard output and standard error.
    if os.fork() == 0:
        time.sleep(600)
    print(f"its parent: {os.getpid()}", end="", flush=True)
    os._exit(0)
elif page == "hangs-with-a-child":
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    sys.stdout.flush()
    complain("hangs")
    time.sleep(600)
elif page == "sloppy":
    print("sloppy", end="", flush=True)
    os._exit(1)
sys.stdout.flush()
