"""A site of Flask's: streams, files, forms, sessions, errors."""

import io
import os
import time

from flask import Flask, abort, jsonify, request, send_file, session, stream_with_context, url_for

STATE = os.environ["STATE"]
app = application = Flask(__name__)
app.secret_key = "the tests' own"
ended = []


def path(name):
    return os.path.join(STATE, os.path.basename(name))


@app.get("/")
def index():
    return f"{url_for('index')} {request.url}"


@app.get("/stream")
def stream():
    def parts():
        try:
            for number in range(3):
                yield f"{number} of {request.args['name']}\n"
                deadline = time.monotonic() + 20
                while not os.path.exists(path(f"seen-{number}")) and time.monotonic() < deadline:
                    time.sleep(0.005)
            while "endless" in request.args:
                yield "x" * 1000
        finally:
            ended.append(request.args["name"])

    return app.response_class(stream_with_context(parts()), mimetype="text/plain")


@app.get("/ended")
def tell_ended():
    return ",".join(ended)


@app.get("/file/<name>")
def file(name):
    return send_file(path(name), conditional=True, max_age=60)


@app.get("/memory")
def memory():
    return send_file(io.BytesIO(b"from memory " * 1000), mimetype="text/plain", download_name="a.txt")


@app.post("/form")
def form():
    sent = request.files["file"].read()
    return jsonify(name=request.form["name"], length=len(sent), same=sent == b"x" * len(sent))


@app.get("/visit")
def visit():
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


@app.get("/abort/<int:status>")
def give_up(status):
    abort(status)


@app.get("/raise")
def fail():
    raise LookupError("nothing to find here")
