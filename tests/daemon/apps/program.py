"""A FastCGI program without any library, which does as the path asks: mostly what no program should.

Its arguments say what it does before it serves: `print TEXT`, `sleep SECONDS`, `exit STATUS`, `deaf` (never accepts),
`buffer BYTES` (how much it reads ahead, 8192 if nothing is said).
"""

import os
import signal
import socket
import struct
import sys
import time
from urllib.parse import parse_qs, urlsplit

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA = 1, 2, 3, 4, 5, 6, 7, 8


class Gone(Exception):
    pass


class Connection:
    def __init__(self, socket, buffer):
        self.socket, self.buffer, self.ahead = socket, buffer, b""

    def exactly(self, count):
        while len(self.ahead) < count:
            got = self.socket.recv(max(self.buffer, count - len(self.ahead)) if self.buffer else count - len(self.ahead))
            if not got:
                raise Gone
            self.ahead += got
        taken, self.ahead = self.ahead[:count], self.ahead[count:]
        return taken

    def record(self):
        _, kind, number, content, padding = struct.unpack(">BBHHBx", self.exactly(8))
        body = self.exactly(content)
        self.exactly(padding)
        return kind, number, body

    def stream(self, wanted):
        while True:
            kind, _, body = self.record()
            if kind == ABORT:
                say("aborted")
                raise Gone
            if kind == wanted:
                if not body:
                    return
                yield body

    def send(self, kind, body=b""):
        for at in range(0, len(body), 60000):
            part = body[at : at + 60000]
            self.socket.sendall(struct.pack(">BBHHBx", 1, kind, 1, len(part), 0) + part)

    def end(self, status=0, protocol=0):
        self.socket.sendall(struct.pack(">BBHHBxIB3x", 1, END, 1, 8, 0, status, protocol))


def say(text):
    os.write(1, (text + "\n").encode())


def pairs(data):
    at = 0
    while at < len(data):
        lengths = []
        for _ in range(2):
            length = data[at]
            at += 1
            if length & 0x80:
                length = (length & 0x7F) << 24 | int.from_bytes(data[at : at + 3], "big")
                at += 3
            lengths.append(length)
        name = data[at : at + lengths[0]].decode()
        at += lengths[0]
        yield name, data[at : at + lengths[1]].decode()
        at += lengths[1]


def serve(connection):
    """One request; returns whether the connection goes on."""
    kind, _, body = connection.record()
    if kind != BEGIN:
        # What is left of a body that was not read.
        return True
    role, keep = struct.unpack(">HB5x", body)
    params = dict(pairs(b"".join(connection.stream(PARAMS))))
    uri = urlsplit(params.get("REQUEST_URI", "/"))
    query = {name: values[0] for name, values in parse_qs(uri.query).items()}
    say(f"begun {params.get('REQUEST_METHOD')} {params.get('REQUEST_URI')}")
    head = b"Content-Type: text/plain\r\n\r\n"

    def answer(text, status=0):
        connection.send(STDOUT, head + text)
        connection.end(status)

    path = uri.path
    if path == "/pid":
        for _ in connection.stream(STDIN):
            pass
        answer(b"%d" % os.getpid())
    elif path == "/role":
        given = {1: [STDIN], 2: [], 3: [STDIN, DATA]}[role]
        streams = [b"".join(connection.stream(stream)).decode() for stream in given]
        answer(f"{role} {streams}".encode())
    elif path == "/params":
        answer("\n".join(f"{name}={value}" for name, value in sorted(params.items())).encode())
    elif path == "/environment":
        answer("\n".join(f"{name}={value}" for name, value in sorted(os.environ.items())).encode())
    elif path == "/descriptors":
        answer(" ".join(sorted(os.listdir("/proc/self/fd"), key=int)).encode())
    elif path == "/count":
        answer(b"%d" % sum(map(len, connection.stream(STDIN))))
    elif path == "/echo":
        connection.send(STDOUT, head)
        for piece in connection.stream(STDIN):
            connection.send(STDOUT, piece)
        connection.end()
    elif path == "/big":
        connection.send(STDOUT, head)
        for _ in range(int(query["mib"])):
            connection.send(STDOUT, b"x" * (1 << 20))
        for _ in connection.stream(STDIN):
            pass
        connection.end()
    elif path == "/early":
        answer(b"early")
    elif path == "/streams":
        connection.send(STDOUT, b"Status: 418 I'm a teapot\r\n" + head)
        connection.send(STDERR, b"careful")
        connection.send(STDOUT, b"tea")
        connection.end(7)
    elif path == "/slow":
        time.sleep(float(query["s"]))
        answer(b"slow")
    elif path == "/parts":
        connection.send(STDOUT, head + b"one")
        say("sent one")
        time.sleep(float(query["s"]))
        connection.send(STDOUT, b"two")
        connection.end()
    elif path == "/refuse":
        connection.end(0, int(query["protocol"]))
    elif path == "/die":
        sys.stderr.write("the last words\n")
        sys.stderr.flush()
        if "signal" in query:
            os.kill(os.getpid(), int(query["signal"]))
        os._exit(int(query["status"]))
    elif path == "/half":
        connection.send(STDOUT, head + b"half")
        time.sleep(0.2)
        connection.socket.sendall(b"\1\6\0\1\0")
        os._exit(5)
    elif path == "/nonsense":
        if "first" in query:
            connection.send(STDOUT, head + b"x")
            time.sleep(0.2)
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        time.sleep(60)
    elif path == "/close":
        for _ in connection.stream(STDIN):
            pass
        answer(b"%d" % os.getpid())
        return False
    elif path == "/last":
        # The next request is neither read nor refused for a while.
        for _ in connection.stream(STDIN):
            pass
        answer(b"%d" % os.getpid())
        time.sleep(float(query.get("s", "0")))
        os._exit(int(query["status"]))
    elif path == "/stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        answer(b"%d" % os.getpid())
        time.sleep(60)
    elif path == "/shut":
        answer(b"%d" % os.getpid())
        connection.socket.close()
        socket.socket(fileno=os.dup(0)).shutdown(socket.SHUT_RDWR)
        say("accepts no more")
        time.sleep(60)
    elif path == "/prattle":
        # Records that are for nobody, as many at once as the kernel takes.
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        nothing = struct.pack(">BBHHBx", 1, 10, 0, 0, 0) * (1 << 17)
        while True:
            connection.socket.sendall(nothing)
    elif path == "/child":
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        answer(b"%d" % pid)
    else:
        connection.send(STDOUT, b"Status: 404 Not Found\r\n\r\n")
        connection.end()
    return bool(keep)


def main(arguments):
    buffer = 8192
    while arguments:
        word = arguments.pop(0)
        if word == "print":
            print(arguments.pop(0), file=sys.stderr, flush=True)
        elif word == "exit":
            sys.exit(int(arguments.pop(0)))
        elif word == "sleep":
            time.sleep(float(arguments.pop(0)))
        elif word == "deaf":
            time.sleep(60)
        elif word == "buffer":
            buffer = int(arguments.pop(0))
    listener = socket.socket(fileno=0)
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            # Nobody will come any more.
            say("left in good order")
            sys.exit(0)
        connection = Connection(accepted, buffer)
        try:
            while serve(connection):
                pass
        except (Gone, ConnectionError):
            pass
        accepted.close()


main(sys.argv[1:])
