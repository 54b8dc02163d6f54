"""What PEP 3333 leaves easy to get wrong. The path names a function of this file."""

import io
import itertools
import os
import resource
import sys
import threading
import time
import weakref
import wsgiref.validate

TEXT = [("Content-Type", "text/plain; charset=utf-8")]
STATE = os.environ.get("STATE", "")
closed = []
kept = {}
seen = []


class Closing:
    """An iterable that notes how often it was closed."""

    def __init__(self, name, blocks):
        self.name = name
        self.blocks = iter(blocks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        closed.append(self.name)


def plain(function):
    """Make an application of a function that returns one text."""

    def application(environ, start_response):
        body = function(environ).encode()
        start_response("200 OK", TEXT)
        return [body]

    return application


def path(name):
    return os.path.join(STATE, name)


def wait_for(name):
    deadline = time.monotonic() + 20
    while not os.path.exists(path(name)):
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        time.sleep(0.005)


# The environment.


@plain
def environ(environ):
    return "".join(f"{name}={ascii(value)}\n" for name, value in sorted(environ.items()) if type(value) is str)


@plain
def variables(environ):
    return "".join(f"{name}={value}\n" for name, value in os.environ.items())


@plain
def flags(environ):
    assert type(environ) is dict
    assert environ["wsgi.version"] == (1, 0) and environ["wsgi.input_terminated"] is True
    return " ".join(str(environ["wsgi." + name]) for name in ("multiprocess", "multithread", "run_once", "url_scheme"))


def valid(environ, start_response):
    return wsgiref.validate.validator(plain(lambda _: "valid"))(environ, start_response)


def path_of(environ, start_response):
    start_response("200 OK", TEXT)
    return [ascii((environ["SCRIPT_NAME"], environ["PATH_INFO"])).encode()]


@plain
def forget(environ):
    # What one application does to its dictionary is no other request's business.
    seen = environ.get("spoiled", "clean"), environ["SERVER_NAME"]
    environ["spoiled"] = "spoiled"
    environ["SERVER_NAME"] = "spoiled"
    del environ["HTTP_HOST"]
    return " ".join(seen)


# The request's body.

OPERATIONS = [
    [("read",), ("read",), ("read", 5)],
    [("read", -1), ("read", -1)],
    [("read", None), ("readline", None)],
    [("read", 0), ("read", 3), ("read", 100_000), ("read",)],
    [("read", 10**12)],
    [("readline",)] * 6,
    [("readline", 2), ("readline", -1), ("readline", 0), ("readline", 10**9)],
    [("readlines",), ("readlines",)],
    [("readlines", 1), ("readlines", 9), ("readlines", 0)],
    [("readlines", -1), ("read",)],
    [("readline",), ("read", 4), ("readline",), ("read",)],
]


@plain
def reading(environ):
    number = int(environ["QUERY_STRING"])
    body, same = environ["wsgi.input"], io.BytesIO(environ["HTTP_BODY"].encode().replace(b"|", b"\n"))
    if number < len(OPERATIONS):
        for name, *arguments in OPERATIONS[number]:
            got, expected = getattr(body, name)(*arguments), getattr(same, name)(*arguments)
            assert got == expected and type(got) is type(expected), (name, arguments, got, expected)
    elif number == len(OPERATIONS):
        assert list(body) == list(same)
        assert next(body, None) is None
    elif number == len(OPERATIONS) + 1:
        buffer = bytearray(b"-" * 10)
        count = body.readinto(memoryview(buffer)[2:6])
        assert bytes(buffer) == b"--" + same.read(count) + b"-" * (8 - count), buffer
        assert io.BufferedReader(body).read() == same.read()
        assert body.readinto(buffer) == 0
    else:
        return "no more"
    assert body.read() == same.read()
    for _ in range(3):
        assert body.read() == b"" and body.readline() == b"" and body.readlines() == []
    return "right"


@plain
def reading_at_once(environ):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    length = len(environ["wsgi.input"].read())
    return f"{length} {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}"


def read_late(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"got "
    yield environ["wsgi.input"].read()


@plain
def short(environ):
    open(path("short-begun"), "w").close()
    told = []
    for _ in range(2):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            told.append(type(error).__name__)
    with open(path("short"), "w") as file:
        file.write(" ".join(told))
    return " ".join(told)


@plain
def unread(environ):
    return environ["wsgi.input"].read(4).decode()


def keep(environ, start_response):
    write = start_response("200 OK", TEXT)
    objects = {
        "input": environ["wsgi.input"],
        "start_response": start_response,
        "write": write,
        "responder": start_response.__self__,
        "writer": write.__self__,
    }
    kept.clear()
    for name in environ["QUERY_STRING"].split("+"):
        kept[name] = objects[name]
    return [b"kept"]


@plain
def use_kept(environ):
    told = []
    for name, use in (
        ("input", lambda: kept["input"].read()),
        ("start_response", lambda: kept["start_response"]("200 OK", [])),
        ("write", lambda: kept["write"](b"smuggled")),
        ("responder", lambda: kept["responder"].start_response("200 OK", [])),
        ("writer", lambda: kept["writer"].write(b"smuggled")),
    ):
        if name in kept:
            try:
                use()
            except ValueError as error:
                told.append(str(error))
    return f"{told.count('the request has ended')} {environ['wsgi.input'].read().decode()}"


def reuse(environ, start_response):
    objects = [start_response, start_response("200 OK", TEXT)]
    same = [before() is now for before, now in zip(seen, objects)]
    seen[:] = map(weakref.ref, objects)
    return [str(same).encode()]


def two_threads(environ, start_response):
    start_response("200 OK", TEXT)
    body, got = environ["wsgi.input"], []
    reader = threading.Thread(target=lambda: got.append(body.read()))
    reader.start()
    refused = False
    # The lock is not held in the wait: otherwise this would not run before the body comes.
    while reader.is_alive() and not refused:
        try:
            body.read(0)
            time.sleep(0.001)
        except RuntimeError:
            refused = True
    open(path("refused"), "w").close()
    reader.join()
    return [f"{refused} {len(got[0])}".encode()]


# start_response.


def twice(environ, start_response):
    start_response("200 OK", TEXT)
    try:
        start_response("404 Not Found", TEXT)
    except AssertionError:
        return [b"refused"]
    return [b"allowed"]


def replaced(environ, start_response):
    start_response("200 OK", TEXT + [("X-First", "yes")])
    try:
        raise KeyError("early")
    except KeyError:
        start_response("503 Service Unavailable", TEXT, sys.exc_info())
    return [b"replaced"]


def too_late(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"begun\n")
    try:
        raise KeyError("the reason")
    except KeyError:
        try:
            start_response("500 Oops", TEXT, sys.exc_info())
        except KeyError as error:
            return [f"raised {error}".encode()]
    return [b"allowed"]


def writing(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"one ")
    write(b"")
    write(b"two ")
    yield b"three "
    write(b"four ")
    yield b"five"


def empty_exc_info(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"begun\n")
    try:
        start_response("500 Oops", TEXT, (None, None, None))
    except TypeError as error:
        return [str(error).encode()]
    return [b"allowed"]


def late_head(environ, start_response):
    yield b""
    start_response("200 OK", TEXT)
    yield b""
    start_response("202 Accepted", TEXT, (None, None, None))
    yield b"body"


def no_head(environ, start_response):
    return [b"body"]


def no_head_nor_body(environ, start_response):
    return []


def head_after_body(environ, start_response):
    yield b"body"
    start_response("200 OK", TEXT)


STATUSES = [200, "", "20", "200OK", "abc", "99 Too Low", "200 OK\r\nX-A: b", "200 O\0K", "200 \N{SNOWMAN}", b"200 OK", None]
HEADERS = [
    None,
    (("A", "b"),),
    {"A": "b"},
    [["A", "b"]],
    [("A",)],
    [("A", "b", "c")],
    [("A", 1)],
    [(1, "b")],
    [("A", b"b")],
    [("", "b")],
    [("A B", "b")],
    [("A:", "b")],
    [("A\r\nB", "b")],
    [("A", "b\r\nC: d")],
    [("A", "b\nC: d")],
    [("A", "b\0c")],
    [("A", "b\x7f")],
    [("A", "\N{SNOWMAN}")],
    [("Status", "404 Not Found")],
    [("Content-Length", "ten")],
    [("Content-Length", "-1")],
    [("Content-Length", "1"), ("Content-Length", "2")],
]


HEADS = [(status, TEXT) for status in STATUSES] + [("200 OK", headers) for headers in HEADERS]


def bad_head(environ, start_response):
    number = int(environ["QUERY_STRING"])
    if number < len(HEADS):
        start_response(*HEADS[number])
        return [b"sent"]
    start_response("200 OK", TEXT)
    return [b"no more"]


def good_headers(environ, start_response):
    start_response(
        "299 Odd Reason",
        [
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("X-Latin", "caf\xe9"),
            ("X-Tab", "a\tb"),
            ("X-Empty", ""),
            ("Connection", "close"),
            ("keep-alive", "timeout=5"),
            ("Transfer-Encoding", "chunked"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("content-length", "4"),
            ("Content-Length", "4"),
        ],
    )
    return [b"body"]


# The answer's body.


def blocks(environ, start_response):
    kind, _, words = environ["QUERY_STRING"].partition(":")
    parts = [word.encode() for word in words.split(",")] if words else []
    headers = list(TEXT)
    if "HTTP_LENGTH" in environ:
        headers.append(("Content-Length", environ["HTTP_LENGTH"]))
    start_response(environ.get("HTTP_STATUS", "200 OK"), headers)
    return {"list": list, "tuple": tuple, "iter": iter, "closing": lambda parts: Closing("blocks", parts)}[kind](parts)


def one_by_one(environ, start_response):
    start_response("200 OK", TEXT)
    for number in range(3):
        yield f"{number}\n".encode()
        wait_for(f"seen-{number}")


def ends_early(environ, start_response):
    start_response("200 OK", TEXT + [("Content-Length", "4")])
    yield b"body"
    wait_for("answered")


def write_too_much(environ, start_response):
    write = start_response("200 OK", TEXT + [("Content-Length", "4")])
    try:
        write(b"body and more")
    except ValueError:
        closed.append("refused")
    return []


RETURNED = [None, 5, "text", b"bytes", ["text"], [b"bytes", 5], [bytearray(b"x")], iter(["text"])]


def returned(environ, start_response):
    start_response("200 OK", TEXT)
    return RETURNED[int(environ["QUERY_STRING"])]


def wrapped(environ, start_response):
    file = open(path("file"), "rb")
    kept["file"] = file
    file.seek(3)
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](file, 10)


@plain
def is_closed(environ):
    return str(kept["file"].closed)


@plain
def closings(environ):
    names = ",".join(closed)
    closed.clear()
    return names


# Failures.

RAISED = [LookupError("lost"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()]


def raising(environ, start_response):
    raise RAISED[int(environ["QUERY_STRING"])]


def raising_in_iteration(environ, start_response):
    start_response("200 OK", TEXT)

    def blocks():
        if environ["QUERY_STRING"] == "late":
            yield b"first"
        raise LookupError("in iteration")

    return Closing("raising", blocks())


def raising_in_close(environ, start_response):
    class Raising(Closing):
        def close(self):
            super().close()
            raise LookupError("in close")

    start_response("200 OK", TEXT)
    return Raising("raising in close", [b"whole"])


FALLS = {
    "returning": lambda: [b"child"],
    "exiting": lambda: sys.exit(),
    "exiting with 3": lambda: sys.exit(3),
    "exiting with words": lambda: sys.exit("the child's last words"),
    "raising": lambda: [][0],
}


def fork_and_wait(fall):
    """The child falls out of the application. The parent returns what came of it."""
    child = os.fork()
    if child == 0:
        return fall()
    _, status = os.waitpid(child, 0)
    return [str(os.waitstatus_to_exitcode(status)).encode()]


def forking(environ, start_response):
    start_response("200 OK", TEXT)
    return fork_and_wait(FALLS[environ["QUERY_STRING"].replace("_", " ")])


def forking_in_iteration(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"first "
    yield from fork_and_wait(FALLS["returning"])


def forking_in_close(environ, start_response):
    class Forking(Closing):
        def close(self):
            closed.append(fork_and_wait(FALLS["returning"])[0].decode())

    start_response("200 OK", TEXT)
    return Forking("", [b"whole"])


def endless(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing("endless", itertools.repeat(b"x" * 1000))


def empty_for_ever(environ, start_response):
    start_response("200 OK", TEXT)
    open(path("begun"), "w").close()
    return Closing("empty", itertools.repeat(b""))


def writing_for_ever(environ, start_response):
    write = start_response("200 OK", TEXT)
    try:
        while True:
            write(b"x" * 1000)
    except OSError:
        closed.append("told")
        raise


@plain
def errors(environ):
    stream = environ["wsgi.errors"]
    stream.write("written to wsgi.errors\n")
    stream.writelines(["lines to ", "wsgi.errors\n"])
    stream.flush()
    return "written"


@plain
def pid(environ):
    return str(os.getpid())


def application(environ, start_response):
    if environ.get("HTTP_WHOLE_PATH"):
        return path_of(environ, start_response)
    name = environ["PATH_INFO"].lstrip("/").split("/")[0]
    return globals()[name](environ, start_response)
