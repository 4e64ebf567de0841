# SPDX-License-Identifier: MIT OR GPL-2.0
"""Forks a child again and again; each does the same work in parts and says how much CPU time they
took: the first, and the later ones, when its breakpoints must be gone.
"""

import json
import os
import select
import time


def work():
    """CPU seconds of the first of 24 equal parts, and the mean of the last two: a tenth of a
    second later, which is more than it takes to free a child.
    """
    seconds = []
    for _ in range(24):
        began = time.process_time()
        kept = [{"n": n, "text": str(n)} for n in range(20000)]
        kept.clear()
        seconds.append(time.process_time() - began)
    return {"first": seconds[0], "cpu": (seconds[-2] + seconds[-1]) / 2}


def main():
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    while True:
        pid = os.fork()
        if pid == 0:
            os.write(1, (json.dumps({"child": os.getpid(), **work()}) + "\n").encode())
            os._exit(0)
        os.waitpid(pid, 0)
        if select.select([0], [], [], 0.05)[0] and not os.read(0, 100):
            break


main()
