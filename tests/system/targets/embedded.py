# SPDX-License-Identifier: MIT OR GPL-2.0
"""Leaks in several threads at once, an exact number of blocks in each; run by a Python that is
embedded in another program (embedder.c), or, as a program with --threads N, by itself.

A line "leak N" on its input makes every thread leak N blocks; then it says {"done": blocks}.
"""

import json
import os
import sys
import threading

SLOTS_MAX = 50000
KEPT = {}
TURN = threading.Condition()
STATE = {"turn": 0, "count": 0, "busy": 0, "threads": 0, "end": False}


def keep(slots, number):
    slots[number] = bytes(64)  # LEAK


def leak(name, count):
    slots = KEPT[name]
    free = slots.index(None)
    for number in range(free, free + count):
        keep(slots, number)
        json.loads(json.dumps({"number": number, "list": [number, str(number), number * 0.5]}))


def work(number):
    """A thread's life: what it is told to leak, it leaks."""
    turn = 0
    with TURN:
        KEPT[number] = [None] * SLOTS_MAX
        STATE["threads"] += 1
        TURN.notify_all()
    while True:
        with TURN:
            while STATE["turn"] == turn and not STATE["end"]:
                TURN.wait()
            if STATE["end"]:
                return
            turn = STATE["turn"]
            count = STATE["count"]
        leak(number, count)
        with TURN:
            STATE["busy"] -= 1
            TURN.notify_all()


def kept():
    return sum(slots.index(None) for slots in KEPT.values())


def tell(record):
    os.write(1, (json.dumps(record) + "\n").encode())


def main():
    threads = int(sys.argv[sys.argv.index("--threads") + 1])
    if __name__ == "__main__":
        for number in range(threads):
            threading.Thread(target=work, args=(number,), daemon=True).start()
    KEPT["main"] = [None] * SLOTS_MAX
    with TURN:
        while STATE["threads"] < threads:
            TURN.wait()
    tell({"ready": True, "pid": os.getpid(), "version": sys.version.split()[0]})
    while True:
        line = os.read(0, 100)
        if not line:
            break
        count = int(line.split()[1])
        before = kept()
        with TURN:
            STATE.update(turn=STATE["turn"] + 1, count=count, busy=threads)
            TURN.notify_all()
        leak("main", count)
        with TURN:
            while STATE["busy"]:
                TURN.wait()
        tell({"done": kept() - before})


if __name__ == "__main__":
    main()
