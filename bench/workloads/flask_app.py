# SPDX-License-Identifier: MIT OR GPL-2.0
"""A Flask service for gunicorn: flask_app:app. Its leaks come from BENCH_LEAKS (leaks.py).

Each worker says twice a second, from within a request, {"pid": P, "requests": N, "leaked": {}}.
"""

import json
import os
import sys
import time
from pathlib import Path

import flask

sys.path.insert(0, str(Path(__file__).resolve().parent))
from handler import BODY, handle  # noqa: E402
from leaks import Leaks  # noqa: E402

REPORT_SECONDS = 0.5
app = flask.Flask(__name__)


class Worker:
    leaks = None
    requests = 0
    next = 0.0


@app.route("/users/<int:number>")
def users(number):
    answer = json.loads(handle(BODY))
    answer["number"] = number
    if Worker.leaks is None:  # after the fork
        Worker.leaks = Leaks(os.environ.get("BENCH_LEAKS", ""))
    Worker.leaks.tick()
    Worker.requests += 1
    if time.monotonic() >= Worker.next:
        Worker.next = time.monotonic() + REPORT_SECONDS
        print(json.dumps({"pid": os.getpid(), "requests": Worker.requests,
                          "leaked": Worker.leaks.calls()}), flush=True)
    return flask.jsonify(answer)
