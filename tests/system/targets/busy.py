# SPDX-License-Identifier: MIT OR GPL-2.0
"""Allocates as fast as it can, and says ten times a second how much it has done in how much CPU
time; with --sleep it rests between (a service that is not busy). Ends with its input.
"""

import json
import os
import select
import sys
import time


def unit(n):
    record = {"id": n, "name": "name %d" % n, "tags": [str(n), (n, n * 0.5)]}
    return len(json.dumps(record))


def main():
    rest = 0.02 if "--sleep" in sys.argv else 0
    work = 0
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    while True:
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            for _ in range(50):
                unit(work)
                work += 1
            if rest:
                time.sleep(rest)
        print(json.dumps({"work": work, "cpu": time.process_time()}), flush=True)
        if select.select([0], [], [], 0)[0] and not os.read(0, 100):
            break


main()
