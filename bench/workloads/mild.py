# SPDX-License-Identifier: MIT OR GPL-2.0
"""One of many processes of a host: idle, or mildly busy, until its input ends.

    mild.py idle            sleeps, as most of a host's Pythons do
    mild.py busy [LEAKS]    some 100 requests a second (handler.py), and leaks (leaks.py)

Says {"ready": true}.
"""

import select
import sys

from handler import BODY, handle
from leaks import Leaks

PAUSE_SECONDS = 0.02
REQUESTS_AT_ONCE = 2


def main():
    leaks = Leaks(sys.argv[2] if len(sys.argv) > 2 else "")
    print('{"ready": true}', flush=True)
    if sys.argv[1] == "idle":
        select.select([sys.stdin], [], [])
        return
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        for _ in range(REQUESTS_AT_ONCE):
            handle(BODY)
        leaks.tick()


main()
