# SPDX-License-Identifier: MIT OR GPL-2.0
"""A process that pyleakd does not look at, and that forks: bystander.py SECONDS.

Prints the microseconds that each fork took in the parent, as a JSON list.
"""

import json
import os
import sys
import time

PAUSE_SECONDS = 0.003


def main():
    times = []
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        started = time.perf_counter_ns()
        child = os.fork()
        if child == 0:
            os._exit(0)
        times.append((time.perf_counter_ns() - started) / 1000)
        os.waitpid(child, 0)
        time.sleep(PAUSE_SECONDS)
    print(json.dumps(times))


main()
