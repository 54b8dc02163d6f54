"""Answers that are files: what `wsgi.file_wrapper` is given, and what it makes of it.

    /KIND/NAME?from=n&length=n   the file NAME in the folder of the state, opened as KIND; from a position, with a declared
                                 length
    /seeks                       what a wrapper says of its place in a file, and of a file that has none
    /told                        what the file of the last answer said when it was closed, and whether other code ran
"""

import ctypes
import gzip
import io
import os
import signal
import socket
import struct
import tempfile
import threading
import time
from urllib.parse import parse_qs

STATE = os.environ["STATE"]
told = []


class Shouting(io.BufferedReader):
    def read(self, size=-1):
        return super().read(size).upper()


class Proxy:
    """All of it is the file's, as in a framework's own kind of file."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)


class Translated(Proxy):
    def read(self, size=-1):
        return self.file.read(size).upper()


class Reading:
    """Has nothing but what it must have."""

    def __init__(self, file):
        self.read = lambda size: file.read(size)


class Numbered(Reading):
    def fileno(self):
        return -1


def temporary(name):
    made = tempfile.TemporaryFile()
    with open(name, "rb") as file:
        made.write(file.read())
    made.seek(0)
    return made


def piped(name):
    reading, writing = os.pipe()

    def fill():
        with open(name, "rb") as file, open(writing, "wb") as pipe:
            pipe.write(file.read())

    threading.Thread(target=fill).start()
    return open(reading, "rb")


def over_a_socket(name):
    ours, theirs = socket.socketpair()

    def fill():
        with open(name, "rb") as file, theirs:
            theirs.sendall(file.read())

    threading.Thread(target=fill).start()
    with ours:
        return ours.makefile("rb")


def closed(name):
    file = open(name, "rb")
    file.close()
    return file


def one_byte_read(name):
    file = open(name, "rb")
    file.read(1)
    return file


KINDS = {
    "plain": lambda name: open(name, "rb"),
    "raw": lambda name: open(name, "rb", buffering=0),
    "changing": temporary,
    "begun": one_byte_read,
    "proxy": lambda name: Proxy(open(name, "rb")),
    "shouting": lambda name: Shouting(io.FileIO(name)),
    "translated": lambda name: Translated(open(name, "rb")),
    "memory": lambda name: io.BytesIO(open(name, "rb").read()),
    "compressed": lambda name: gzip.open(name),
    "reading": lambda name: Reading(open(name, "rb")),
    "numbered": lambda name: Numbered(open(name, "rb")),
    "pipe": piped,
    "socket": over_a_socket,
    "kernel": lambda name: open("/proc/sys/kernel/ostype", "rb"),
    "text": open,
    "closed": closed,
    "written": lambda name: io.FileIO(name + ".written", "w"),
    "nothing": lambda name: object(),
}


def refuse_sendfile():
    """From now on the system call gives EINVAL, as some file systems and sandboxes have it (seccomp(2))."""
    number = {"x86_64": 40, "aarch64": 71}[os.uname().machine]
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | 22), (0x06, 0, 0, 0x7FFF0000)]
    filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(filter)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):
        assert libc.prctl(*call) == 0, os.strerror(ctypes.get_errno())


def counting():
    """Counts while nobody else has the interpreter's lock."""
    deadline = time.monotonic() + 10
    while not os.path.exists(os.path.join(STATE, "enough")) and time.monotonic() < deadline:
        time.sleep(0.005)
        with open(os.path.join(STATE, "counted"), "w"):
            pass


def application(environ, start_response):
    _, kind, *name = environ["PATH_INFO"].split("/")
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"], keep_blank_values=True).items()}
    headers = [("Content-Type", "application/octet-stream")]
    if kind == "told":
        start_response("200 OK", headers)
        return [" ".join(told).encode()]
    if kind == "seeks":
        wrapped, blind = environ["wsgi.file_wrapper"](io.BytesIO(b"01234")), environ["wsgi.file_wrapper"](Reading(None))
        start_response("200 OK", headers)
        return [repr((wrapped.seekable(), wrapped.seek(3), wrapped.tell(), list(wrapped), blind.seekable())).encode()]
    file = KINDS[kind](os.path.join(STATE, *name))
    if "from" in query:
        file.seek(int(query["from"]))
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    if "refuse" in query:
        refuse_sendfile()
    if "thread" in query:
        threading.Thread(target=counting).start()
    if "pipe" in query:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    def close():
        told[:] = [kind, str(file.tell())]
        type(file).close(file)

    if kind in ("plain", "raw", "changing", "memory"):
        told[:] = []
        try:
            file.close = close
        except AttributeError:  # io.BytesIO has no room for it
            pass
    start_response(query.get("status", "200 OK"), headers)
    return environ["wsgi.file_wrapper"](file, 10)
