# SPDX-License-Identifier: MIT OR GPL-2.0
"""Does the same again and again and compares what comes of it.

Speaks JSON lines. While its input has nothing to say it works; a line "rest" has it wait for the
next one, "grow N" keeps N MiB of small objects and rests, "work" goes on. At its input's end it
says {"rounds": N, "wrong": N}. --threads: two work.
"""

import hashlib
import json
import os
import re
import select
import sys
import threading

KEPT = []
WRONG = []
ROUNDS = [0, 0]


def unit(n):
    record = {"id": n, "names": ["name %d" % i for i in range(n % 40)], "ratio": n / 7,
              "nested": [{"key": (i, str(i), i * 0.5)} for i in range(10)]}
    text = json.dumps(record, sort_keys=True)
    words = re.findall(r"\w+", text)
    again = json.loads(text)
    again["count"] = sum(len(word) for word in words)
    return hashlib.sha256(repr(sorted(again.items())).encode()).hexdigest()


EXPECTED = [unit(n) for n in range(50)]


def work(which):
    for n, expected in enumerate(EXPECTED):
        if unit(n) != expected:
            WRONG.append(n)
    ROUNDS[which] += 1


def work_on(end):
    while not end.is_set():
        work(1)


def grow(mebibytes):
    KEPT.append([[i, str(i)] for i in range(mebibytes * 7000)])


class Lines:
    def __init__(self):
        self.buffer = b""

    def take(self, wait):
        """The next line; None: there is none; "": the input has ended."""
        while b"\n" not in self.buffer:
            if not wait and not select.select([0], [], [], 0)[0]:
                return None
            text = os.read(0, 1 << 12)
            if not text:
                return ""
            self.buffer += text
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()


def main():
    lines, resting = Lines(), False
    end = threading.Event()
    if "--threads" in sys.argv:
        threading.Thread(target=work_on, args=(end,), daemon=True).start()
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    while True:
        line = lines.take(wait=resting)
        if line == "":
            break
        if line is not None:
            command, *arguments = line.split()
            resting = command != "work"
            if command == "grow":
                grow(int(arguments[0]))
            print(json.dumps({"did": command, "rounds": sum(ROUNDS)}), flush=True)
        if not resting:
            work(0)
    end.set()
    print(json.dumps({"rounds": sum(ROUNDS), "wrong": len(WRONG)}), flush=True)


main()
