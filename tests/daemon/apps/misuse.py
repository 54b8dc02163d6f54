"""An application that misuses each rule of PEP 3333. The path names one of the mistakes below.

Some show before anything has been sent, some only when the web server has the beginning of an answer, and some when it
has all of it. What is injected is a header of the name `X-Injected`, or a body of that text.
"""

import os
import sys

TEXT = [("Content-Type", "text/plain")]
EVIL = "\r\nX-Injected: yes"


def answer(status="200 OK", headers=TEXT, body=(b"X-Injected",)):
    """An answer of one of whose parts is wrong."""

    def mistake(environ, start_response):
        start_response(status, headers)
        return body

    return mistake


def with_header(name, value):
    return answer(headers=TEXT + [(name, value)])


class Sly(str):
    """Is checked as one thing, and would be sent as another."""

    def encode(self, *_):
        return b"a" + EVIL.encode()

    def __str__(self):
        return "a" + EVIL


def after_one_block(rest):
    def mistake(environ, start_response):
        start_response("200 OK", TEXT)
        yield b"begun"
        yield from rest(start_response)

    return mistake


def streams_text(environ, start_response):
    start_response("200 OK", TEXT)
    yield "X-Injected"


def no_head(environ, start_response):
    return [b"X-Injected"]


def no_head_nor_body(environ, start_response):
    return []


def late_head(environ, start_response):
    yield b"X-Injected"
    start_response("200 OK", TEXT)


def two_heads(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("404 Not Found", TEXT)
    return [b"X-Injected"]


def exc_info(value):
    def mistake(environ, start_response):
        start_response("200 OK", TEXT, value)
        return [b"X-Injected"]

    return mistake


def named_arguments(environ, start_response):
    start_response(status="200 OK", headers=TEXT)
    return [b"X-Injected"]


def no_headers(environ, start_response):
    start_response("200 OK")
    return [b"X-Injected"]


def writes(data):
    def mistake(environ, start_response):
        start_response("200 OK", TEXT)(data)
        return []

    return mistake


def takes_no_start_response(environ):
    return [b"X-Injected"]


def exits(environ, start_response):
    sys.exit("X-Injected")


def raises_lines(environ, start_response):
    raise LookupError("one line\nGET /forged: the application is fine\r\x1b[2J")


def raises_what_cannot_be_told(environ, start_response):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    raise Mute


def reads_into_nothing(environ, start_response):
    environ["wsgi.input"].readinto(b"cannot be written to")


def reads_text(environ, start_response):
    environ["wsgi.input"].read("ten")


class Closing:
    def __init__(self, close):
        self.close = close

    def __iter__(self):
        return iter([b"whole"])


def writes_after_the_end(environ, start_response):
    write = start_response("200 OK", TEXT)
    return Closing(lambda: write(b"X-Injected"))


def starts_after_the_end(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(lambda: start_response("404 Not Found", TEXT))


def raises_in_close(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(lambda: [][0])


def too_much(environ, start_response):
    start_response("200 OK", TEXT + [("Content-Length", "5")])
    return [b"who", b"le", b"\r\nX-Injected"]


def too_little(body):
    def mistake(environ, start_response):
        start_response("200 OK", TEXT + [("Content-Length", "99")])
        return body()

    return mistake


def raising(start_response):
    raise LookupError("late")


MISTAKES = {
    "status-number": answer(status=200),
    "status-bytes": answer(status=b"200 OK"),
    "status-none": answer(status=None),
    "status-empty": answer(status=""),
    "status-short": answer(status="20"),
    "status-long": answer(status="2000 OK"),
    "status-words": answer(status="OK"),
    "status-low": answer(status="099 Too Low"),
    "status-crlf": answer(status="200 OK" + EVIL),
    "status-lf": answer(status="200 OK\nX-Injected: yes"),
    "status-end": answer(status="200 OK\r\n"),
    "status-nul": answer(status="200 O\0K"),
    "status-wide": answer(status="200 \N{SNOWMAN}"),
    "status-surrogate": answer(status="200 \udcff"),
    "headers-none": answer(headers=None),
    "headers-tuple": answer(headers=(("A", "b"),)),
    "headers-dict": answer(headers={"A": "b"}),
    "headers-iterator": answer(headers=iter([("A", "b")])),
    "pair-list": answer(headers=[["A", "b"]]),
    "pair-text": answer(headers=["Ab"]),
    "pair-short": answer(headers=[("A",)]),
    "pair-long": answer(headers=[("A", "b", "c")]),
    "name-number": with_header(1, "b"),
    "name-bytes": with_header(b"A", "b"),
    "name-empty": with_header("", "b"),
    "name-blank": with_header("A B", "b"),
    "name-colon": with_header("A:", "b"),
    "name-crlf": with_header("A: b\r\nX-Injected", "yes"),
    "name-lf": with_header("A\nX-Injected", "yes"),
    "name-nul": with_header("A\0", "b"),
    "name-wide": with_header("\N{SNOWMAN}", "b"),
    "name-latin": with_header("caf\xe9", "b"),
    "value-none": with_header("A", None),
    "value-number": with_header("A", 1),
    "value-bytes": with_header("A", b"b"),
    "value-crlf": with_header("A", "b" + EVIL),
    "value-lf": with_header("A", "b\nX-Injected: yes"),
    "value-cr": with_header("A", "b\rX-Injected: yes"),
    "value-folded": with_header("A", "b\r\n X-Injected: yes"),
    "value-body": with_header("A", "b\r\n\r\nX-Injected"),
    "value-nul": with_header("A", "b\0c"),
    "value-escape": with_header("A", "b\x1bc"),
    "value-delete": with_header("A", "b\x7f"),
    "value-wide": with_header("A", "\N{SNOWMAN}"),
    "value-surrogate": with_header("A", "\ud800"),
    "value-cookie": with_header("Set-Cookie", "a=b" + EVIL),
    "value-place": with_header("Location", "/a" + EVIL),
    "status-header": with_header("Status", "404 Not Found"),
    "length-words": with_header("Content-Length", "ten"),
    "length-negative": with_header("Content-Length", "-1"),
    "length-plus": with_header("Content-Length", "+1"),
    "length-blank": with_header("Content-Length", " 1"),
    "length-empty": with_header("Content-Length", ""),
    "length-hex": with_header("Content-Length", "0x10"),
    "length-list": with_header("Content-Length", "10, 10"),
    "length-huge": with_header("Content-Length", "9" * 30),
    "length-number": with_header("Content-Length", 10),
    "length-two": answer(headers=[("Content-Length", "1"), ("content-length", "2")]),
    "body-none": answer(body=None),
    "body-number": answer(body=5),
    "body-text": answer(body="X-Injected"),
    "body-bytes": answer(body=b"X-Injected"),
    "block-text": answer(body=["X-Injected"]),
    "block-none": answer(body=[None]),
    "block-number": answer(body=[b"", 5]),
    "block-bytearray": answer(body=[bytearray(b"X-Injected")]),
    "block-view": answer(body=[memoryview(b"X-Injected")]),
    "block-streamed-text": streams_text,
    "too-little": too_little(lambda: [b"be", b"gun"]),
    "nothing": too_little(lambda: iter([])),
    "no-head": no_head,
    "no-head-nor-body": no_head_nor_body,
    "late-head": late_head,
    "two-heads": two_heads,
    "exc-info-text": exc_info("wrong"),
    "exc-info-short": exc_info((None, None)),
    "exc-info-exception": exc_info(LookupError("wrong")),
    "named-arguments": named_arguments,
    "no-headers": no_headers,
    "write-text": writes("X-Injected"),
    "write-none": writes(None),
    "takes-no-start-response": takes_no_start_response,
    "returns-a-class": lambda environ, start_response: Closing,
    "exits": exits,
    "raises-lines": raises_lines,
    "raises-what-cannot-be-told": raises_what_cannot_be_told,
    "reads-into-nothing": reads_into_nothing,
    "reads-text": reads_text,
    # The beginning has been sent.
    "later-text": after_one_block(lambda start_response: ["X-Injected"]),
    "later-none": after_one_block(lambda start_response: [None]),
    "later-head": after_one_block(lambda start_response: start_response("200 OK", TEXT)),
    "later-exception": after_one_block(raising),
    "streams-too-little": too_little(lambda: iter([b"begun"])),
    # All has been sent.
    "too-much": too_much,
    "writes-after-the-end": writes_after_the_end,
    "starts-after-the-end": starts_after_the_end,
    "raises-in-close": raises_in_close,
    # No mistakes.
    "sly-value": with_header("A", Sly("b")),
    "sly-status": answer(status=Sly("200 OK")),
}


def application(environ, start_response):
    name = environ["PATH_INFO"].lstrip("/")
    if name == "pid":
        start_response("200 OK", TEXT)
        return [str(os.getpid()).encode()]
    return MISTAKES[name](environ, start_response)
