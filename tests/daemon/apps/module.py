"""What an application does with the module `preforkd`.

    /worker        the worker, and what there was at import
    /write         ends the answer after a write, and goes on while the file "busy" is there
    /yield         the same in an iterable
    /slow          goes on first, and then ends the answer
    /close         returns a body, ends the answer in its close, and goes on
    /elsewhere     another thread asks during the request
    /return        the same before anything was written, and returns a body
    /declared      ends an answer that has reached its length, twice, and writes more
    /short         ends an answer that has not reached its length
    /nothing       ends an answer that has not begun
    /late          ends the answer and raises
    /body          ends the answer and reads the body
    /thread        what a thread gets that asks when the request is over, as of the request before
    /sleep?s=2     ends the answer and holds the worker
"""

import os
import sys
import threading
import time

import preforkd

HERE = os.path.dirname(__file__)
AT_IMPORT = preforkd.worker()
IN_MOLD = preforkd.finish_response()
found = []


def say(words):
    print(words, file=sys.stderr, flush=True)


def work():
    while os.path.exists(os.path.join(HERE, "busy")):
        time.sleep(0.01)
    say("has gone on")


def ended(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"all of it")
    say(f"finished: {preforkd.finish_response()}")
    return write


def generate(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"all "
    yield b"of it"
    say(f"finished: {preforkd.finish_response()}")
    work()
    yield b" and more"


class Closing(list):
    def close(self):
        say(f"finished: {preforkd.finish_response()}")
        work()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    plain = [("Content-Type", "text/plain")]
    if path == "/worker":
        say("begun")
        work()
        start_response("200 OK", plain)
        worker = preforkd.worker()
        assert worker == (worker.pool, worker.slot, worker.generation)
        assert type(worker).__module__ == "preforkd" and not hasattr(preforkd, "mold")
        return [f"{worker} {AT_IMPORT} {IN_MOLD}".encode()]
    if path == "/write":
        write = ended(environ, start_response)
        work()
        write(b" and more")
        return [b" and more"]
    if path == "/yield":
        return generate(start_response)
    if path == "/close":
        start_response("200 OK", plain)
        return Closing([b"all of it"])
    if path == "/elsewhere":
        write = start_response("200 OK", plain)
        write(b"all ")
        thread = threading.Thread(target=lambda: say(f"elsewhere: {preforkd.finish_response()}"))
        thread.start()
        thread.join()
        return [b"of it"]
    if path == "/slow":
        say("begun")
        work()
        start_response("200 OK", plain)
        say(f"finished: {preforkd.finish_response()}")
        return []
    if path == "/return":
        start_response("200 OK", plain)
        say(f"finished: {preforkd.finish_response()}")
        return [b"and more"]
    if path == "/declared":
        write = start_response("200 OK", plain + [("Content-Length", "3")])
        write(b"all")
        say(f"finished: {preforkd.finish_response()} {preforkd.finish_response()}")
        write(b" and more")
        return []
    if path in ("/short", "/nothing"):
        if path == "/short":
            start_response("200 OK", plain + [("Content-Length", "3")])
        try:
            preforkd.finish_response()
        except ValueError as error:
            say(f"refused: {error}")
        if path == "/nothing":
            start_response("200 OK", plain)
        return [b"all"]
    if path == "/late":
        ended(environ, start_response)
        raise LookupError("found out late")
    if path == "/body":
        ended(environ, start_response)
        say(f"read: {environ['wsgi.input'].read()}")
        return []
    if path == "/thread":
        start_response("200 OK", plain)

        def ask():
            while environ["wsgi.input"]:
                try:
                    environ["wsgi.input"].read(0)
                except ValueError:
                    break
                time.sleep(0.01)
            say(f"afterwards: {preforkd.finish_response()}")

        threading.Thread(target=ask).start()
        return [b"all of it"]
    if path == "/sleep":
        ended(environ, start_response)
        time.sleep(float(environ["QUERY_STRING"].partition("=")[2]))
        return []
    start_response("404 Not Found", plain)
    return []
