"""A FastCGI program that does what it should not. It listens on descriptor 0, takes one connection at a time, and does
with each request what the last part of its path says. SIGTERM it ignores.

The word it is started with, if there is one, says what it does instead of serving at all.
"""

import os
import signal
import socket
import struct
import sys
import time

END_REQUEST, STDIN, STDOUT, STDERR = 3, 5, 6, 7
HEAD = b"Content-Type: text/plain\r\n\r\n"


class Gone(Exception):
    """The peer has closed the connection."""


def record(kind, content, id=1, version=1, length=None, padding=0):
    length = len(content) if length is None else length
    return struct.pack(">BBHHBB", version, kind, id, length, padding, 0) + content + b"\xee" * padding


def end(id=1, application=0, protocol=0):
    return record(END_REQUEST, struct.pack(">IBxxx", application, protocol), id)


def whole(text, id=1):
    return record(STDOUT, HEAD + text, id) + record(STDOUT, b"", id) + end(id)


class Connection:
    def __init__(self, stream):
        self.stream = stream

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.stream.recv(count - len(data))
            if not more:
                raise Gone
            data += more
        return data

    def record(self):
        version, kind, id, length, padding, _ = struct.unpack(">BBHHBB", self.exactly(8))
        content = self.exactly(length)
        self.exactly(padding)
        return kind, id, content

    def request(self):
        """Read up to the end of the parameters; return the request's id and its parameters."""
        params = b""
        while True:
            kind, id, content = self.record()
            if kind == 1:
                self.keep = bool(content[2] & 1)
            if kind == 4:
                if not content:
                    return id, dict(pairs(params))
                params += content

    def body(self):
        """Read the body."""
        count = 0
        while True:
            kind, _, content = self.record()
            if kind == STDIN:
                if not content:
                    return count
                count += len(content)

    def send(self, data):
        self.stream.sendall(data)


def pairs(data):
    at = 0
    while at < len(data):
        lengths = []
        for _ in range(2):
            if data[at] < 128:
                lengths.append(data[at])
                at += 1
            else:
                lengths.append(struct.unpack(">I", data[at : at + 4])[0] & 0x7FFFFFFF)
                at += 4
        name = data[at : at + lengths[0]].decode()
        at += lengths[0]
        yield name, data[at : at + lengths[1]].decode()
        at += lengths[1]


def serve(connection):
    """Answer one request; return whether the connection is to be kept."""
    id, params = connection.request()
    page = params["DOCUMENT_URI"].rpartition("/")[2]
    send = connection.send
    if page == "pid":
        connection.body()
        send(whole(str(os.getpid()).encode(), id))
    elif page == "early":
        # The whole answer, and not a byte of the body read before or after.
        send(whole(b"early", id))
        time.sleep(0.2)
        return False
    elif page == "early-and-deaf":
        # The same, and the connection stays open.
        send(whole(b"early", id))
        time.sleep(600)
    elif page == "turns-away":
        # The next request on this connection is left unread.
        connection.body()
        send(whole(b"no more", id))
        connection.stream.recv(1, socket.MSG_PEEK)
        return False
    elif page == "unread":
        # Nothing is read, nothing answered.
        time.sleep(600)
    elif page == "nothing":
        connection.body()
        return False
    elif page == "half-a-header":
        connection.body()
        send(record(STDOUT, HEAD, id)[:5])
        return False
    elif page == "half-a-record":
        connection.body()
        send(record(STDOUT, HEAD + b"x" * 1000, id)[:500])
        return False
    elif page == "half-an-answer":
        connection.body()
        send(record(STDOUT, HEAD + b"x" * 100_000 , id)[: 8 + 60_000])
        os._exit(7)
    elif page == "no-end":
        connection.body()
        send(record(STDOUT, HEAD + b"without an end", id) + record(STDOUT, b"", id))
        return False
    elif page == "no-end-and-open":
        connection.body()
        send(record(STDOUT, HEAD + b"without an end", id) + record(STDOUT, b"", id))
        time.sleep(600)
    elif page == "exit":
        connection.body()
        print("about to exit", file=sys.stderr, flush=True)
        os._exit(7)
    elif page == "exit-with-a-body":
        os._exit(7)
    elif page == "version":
        connection.body()
        send(record(STDOUT, HEAD + b"version 9", id, version=9) + end(id))
    elif page == "unknown-type":
        connection.body()
        send(record(99, b"what is this", id) + whole(b"unknown type", id))
    elif page == "unknown-id":
        connection.body()
        send(whole(b"for somebody else", id + 7) + whole(b"unknown id", id))
    elif page == "short-end":
        connection.body()
        send(record(STDOUT, HEAD + b"x", id) + record(END_REQUEST, b"\0\0", id))
    elif page == "http":
        connection.body()
        send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        return False
    elif page == "more-than-said":
        # Bytes after the end of the answer, which could be taken for the next one.
        connection.body()
        send(whole(b"first", id) + whole(b"smuggled", id))
    elif page == "two-ends":
        connection.body()
        send(whole(b"two ends", id) + end(id))
    elif page == "refuses":
        connection.body()
        send(end(id, protocol=2))
    elif page == "no-headers":
        connection.body()
        send(record(STDOUT, b"just text, no header\n", id) + record(STDOUT, b"", id) + end(id))
    elif page == "empty":
        connection.body()
        send(record(STDOUT, b"", id) + end(id, application=3))
    elif page == "endless-headers":
        connection.body()
        while True:
            send(record(STDOUT, b"X-Header: and on and on\r\n" * 1000, id))
    elif page == "tiny-records":
        connection.body()
        for byte in HEAD + b"tiny" * 1000:
            send(record(STDOUT, bytes([byte]), id, padding=255))
        send(record(STDOUT, b"", id) + end(id))
    elif page == "flood":
        # Standard error, on the connection and as the program was given it, and then an answer.
        connection.body()
        for _ in range(20):
            send(record(STDERR, b"a line on the connection\n" * 2000, id))
        for _ in range(10):
            os.write(2, b"a line on descriptor 2\n" * 2000)
        send(record(STDERR, b"", id) + whole(b"flooded", id))
    elif page == "drip":
        connection.body()
        for byte in record(STDOUT, HEAD, id):
            send(bytes([byte]))
            time.sleep(0.01)
        send(whole(b"", id)[8 + len(HEAD) :])
    elif page == "echo":
        send(record(STDOUT, HEAD, id))
        while True:
            kind, _, content = connection.record()
            if kind == STDIN:
                if not content:
                    break
                send(record(STDOUT, content, id))
        send(record(STDOUT, b"", id) + end(id))
    else:
        connection.body()
        send(whole(b"no such page", id))
    return connection.keep


def main():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    deed = sys.argv[1] if len(sys.argv) > 1 else ""
    if deed == "exits":
        print("hostile: there is nothing to do here", file=sys.stderr, flush=True)
        sys.exit(3)
    if deed == "sleeps":
        time.sleep(600)
    listener = socket.socket(fileno=0)
    if deed == "closes":
        listener.close()
        time.sleep(600)
    if deed == "deaf":
        held = [listener.accept() for _ in range(600)]
        time.sleep(600)
    while True:
        stream, _ = listener.accept()
        with stream:
            try:
                while serve(Connection(stream)):
                    pass
            except (Gone, OSError):
                pass


main()
