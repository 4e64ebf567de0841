# SPDX-License-Identifier: MIT OR GPL-2.0
"""Forks a child again and again; each does the same work and says how much CPU time it took."""

import json
import os
import select
import time


def work():
    began = time.process_time()
    kept = [{"n": n, "text": str(n)} for n in range(20000)]
    return time.process_time() - began + 0 * len(kept)


def main():
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    while True:
        pid = os.fork()
        if pid == 0:
            os.write(1, (json.dumps({"child": os.getpid(), "cpu": work()}) + "\n").encode())
            os._exit(0)
        os.waitpid(pid, 0)
        if select.select([0], [], [], 0.05)[0] and not os.read(0, 100):
            break


main()
