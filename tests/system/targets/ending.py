# SPDX-License-Identifier: MIT OR GPL-2.0
"""Keeps objects of known size, says how much it holds, and ends in the way that it is told to.

It rests before: code objects are read while they live, by whoever has come so far.
"""

import atexit
import json
import os
import signal
import sys
import threading
import time

COUNT = 10000
HELD = [None] * (2 * COUNT)


class Slots:
    __slots__ = ("first", "second")


def keep(start, end):
    for n in range(start, end):
        HELD[2 * n] = Slots()  # LEAK
        HELD[2 * n + 1] = bytes(100 + n % 300)  # LEAK


def tell():
    time.sleep(1.5)
    held = [thing for thing in HELD if thing is not None]
    print(json.dumps({"bytes": sum((sys.getsizeof(thing) + 15) // 16 * 16 for thing in held),
                      "objects": len(held)}), flush=True)


def keep_the_rest():
    time.sleep(0.2)
    keep(COUNT // 2, COUNT)
    tell()


def churn():
    while True:
        [str(n) for n in range(100)]


def main(how):
    keep(0, COUNT // 2)
    if how == "thread":
        threading.Thread(target=keep_the_rest).start()
        return
    keep(COUNT // 2, COUNT)
    if how == "daemon thread":
        threading.Thread(target=churn, daemon=True).start()
    if how == "atexit":
        atexit.register(tell)
        atexit.register(HELD.__setitem__, slice(0, COUNT), [None] * COUNT)
        return
    tell()
    if how == "sys.exit":
        sys.exit(7)
    if how == "exception":
        raise RuntimeError("the end")
    if how == "os._exit":
        os._exit(9)
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)


main(sys.argv[1])
