# SPDX-License-Identifier: MIT OR GPL-2.0
"""As many allocations, creations and frees a second as it can; what it keeps stays bounded.

Says twice a second {"requests": N, "cpu": seconds}; ends with its input.
"""

import json
import os
import select
import sys
import time

RING = [None] * 4096


def flood(count):
    ring = RING
    for n in range(count):
        ring[n & 4095] = (n, n + 1000000)


def main():
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    rounds = 0
    while True:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            flood(2000)
            rounds += 2000
        print(json.dumps({"requests": rounds, "cpu": time.process_time()}), flush=True)
        if select.select([0], [], [], 0)[0] and not os.read(0, 100):
            sys.exit(0)


main()
