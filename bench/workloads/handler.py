# SPDX-License-Identifier: MIT OR GPL-2.0
"""A request handler as web services have them: parse JSON, build an answer, dump it.

    handler.py [DEPTH]          calls it below so many frames more, as a web framework does

Says twice a second {"requests": N, "cpu": seconds}; ends with its input.
"""

import json
import os
import select
import sys
import time

BODY = json.dumps({"query": "all", "page": 1, "users": [
    {"id": n, "name": "user %d" % n, "mail": "user%d@example.org" % n, "score": n * 1.5}
    for n in range(20)]})


def handle(body):
    request = json.loads(body)
    users = [{"id": user["id"], "label": user["name"].upper(), "points": user["score"] * 2}
             for user in request["users"]]
    best = max(users, key=lambda user: user["points"])
    return json.dumps({"count": len(users), "best": best["label"], "page": request["page"] + 1})


def serve(depth, count):
    if depth:
        serve(depth - 1, count)
        return
    for _ in range(count):
        handle(BODY)


def main():
    depth = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    requests = 0
    while True:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            serve(depth, 20)
            requests += 20
        print(json.dumps({"requests": requests, "cpu": time.process_time()}), flush=True)
        if select.select([0], [], [], 0)[0] and not os.read(0, 100):
            sys.exit(0)


if __name__ == "__main__":
    main()
