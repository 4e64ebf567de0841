# SPDX-License-Identifier: MIT OR GPL-2.0
"""What the programs of the zoo have in common: pace, protocol and truth.

A program defines ZOO (below), leak(n), churn(n) and calls zoo.main(globals()). Lines that leak end
in "# LEAK": tests find function, file and line by reading the source.

ZOO = {
    "verdict": "leak" or "stable",
    "function": name of the function that holds the marked line (not its qualified name),
    "function_before_311": the same up to CPython 3.10, where it differs,
    "match": "leaf" (default: the marked line is the site itself) or "stack" (what leaks is made in
             callees of the marked lines: every site with such a line in its stack counts),
    "rate": calls of leak() a second (default 100), "churn": calls of churn() for one of leak(),
    "thread": True to run in a thread that is not the first, "gc": False to run without collector,
    "native_chunks": chunks of the C library that a call leaks past CPython's allocators,
    "mapped_bytes": bytes that a call maps and keeps,
    "requires": module without which the program can't run }

Optional: truth(n), which leaks just what the marked lines' own stacks create, where leak(n) leaks
at other lines too; setup(), done before anything else; run(step), which drives step() from an event
loop of its own, with settle(), which lets that loop do what is due before the books are read.

    program.py [--seconds S] [--rate R] [--wait]    runs; with --wait it churns until a line "go"
        comes on standard input, then leaks until standard input ends
    program.py --truth N[,N...]                     bytes and blocks that N calls leave behind

Output is JSON lines: {"ready": true, "pid": P}, {"time": T, "calls": N} ten times a second,
and at the end {"calls": N, "truth": {...}}.
"""

import argparse
import ctypes
import gc
import importlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import time

KEEP = [None] * 200000  # slots to leak into without a container that grows


def _mallinfo():
    libc = ctypes.CDLL(None)
    word = ctypes.c_size_t if hasattr(libc, "mallinfo2") else ctypes.c_int
    fields = ("arena", "ordblks", "smblks", "hblks", "hblkhd",
              "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")

    class Info(ctypes.Structure):
        _fields_ = [(field, word) for field in fields]

    function = libc.mallinfo2 if hasattr(libc, "mallinfo2") else libc.mallinfo
    function.restype = Info
    return function


class Books:
    """The allocators' own books: pymalloc's blocks by size class, and the C library's chunks.

    What a reading takes itself is a handful of blocks: its files are opened beforehand.
    """

    def __init__(self, n_readings):
        self.mallinfo = _mallinfo()
        self.files = [tempfile.TemporaryFile(buffering=0) for _ in range(n_readings)]
        self.numbers = [file.fileno() for file in self.files]
        self.readings = []
        self.error = os.dup(2)

    def read(self):
        info = self.mallinfo()
        blocks = sys.getallocatedblocks()
        os.dup2(self.numbers[len(self.readings)], 2)
        sys._debugmallocstats()
        os.dup2(self.error, 2)
        self.readings.append((blocks, info))

    def parsed(self):
        return [self.parse(file, *reading) for file, reading in zip(self.files, self.readings)]

    @staticmethod
    def parse(file, blocks, info):
        file.seek(0)
        text = file.read().decode("ascii", "replace")
        row = re.compile(r"^ *\d+ +(\d+) +\d+ +(\d+) +\d+ *$", re.MULTILINE)
        classes = {int(size): int(count) for size, count in row.findall(text)}
        if not classes:
            raise SystemExit("no statistics of pymalloc: it is not the allocator here")
        return {"classes": classes, "large": blocks - sum(classes.values()),
                "chunk_bytes": info.uordblks + info.hblkhd, "mapped": info.hblks}


def _difference(before, after, native_chunks):
    """Bytes and blocks between two readings; a chunk's header of 8 bytes (16 mapped) isn't usable.
    """
    sizes = set(before["classes"]) | set(after["classes"])
    blocks = {size: after["classes"].get(size, 0) - before["classes"].get(size, 0)
              for size in sizes}
    large = after["large"] - before["large"]
    n_mapped = after["mapped"] - before["mapped"]
    pool_bytes = sum(size * count for size, count in blocks.items())
    chunk_bytes = after["chunk_bytes"] - before["chunk_bytes"]
    usable = chunk_bytes - 8 * (large + native_chunks) - 8 * n_mapped
    # Without a chunk of the program's, small changes of the C library's heap are not its own.
    if large + native_chunks == 0:
        usable = 0
    return {"bytes": pool_bytes + usable, "pool_bytes": pool_bytes, "large_bytes": usable,
            "blocks": sum(blocks.values()), "large_blocks": large + native_chunks}


def measure(program, counts):
    """What the marked line leaves behind after so many calls, by the allocators' own books."""
    zoo = program["ZOO"]
    leak = program.get("truth", program["leak"])
    books = Books(len(counts) + 2)
    # The collector empties the free lists, so that what follows takes its blocks from the pools.
    gc.collect()
    gc.disable()
    if "settle" in program:
        program["settle"]()
    books.read()  # once for what the first reading leaves behind
    books.read()
    n = 0
    for count in counts:
        while n < count:
            leak(n)
            n += 1
        if "settle" in program:
            program["settle"]()
        books.read()
    readings = books.parsed()[1:]
    result = []
    for count, reading in zip(counts, readings[1:]):
        truth = _difference(readings[0], reading, zoo.get("native_chunks", 0) * count)
        truth["calls"] = count
        if "mapped_bytes" in zoo:
            truth["bytes"] = zoo["mapped_bytes"] * count
        result.append(truth)
    return result


class Pace:
    """Calls leak() at a bounded rate, and churn() so many times between."""

    def __init__(self, program, options):
        zoo = program["ZOO"]
        self.leak = program["leak"]
        self.churn = program["churn"]
        self.churns = zoo.get("churn", 10)
        self.rate = options.rate or zoo.get("rate", 100)
        self.wait = options.wait
        self.end = time.monotonic() + options.seconds
        self.leaking = not options.wait
        self.calls = 0
        self.churned = 0
        self.started = time.monotonic()
        self.said = 0.0

    def command(self, seconds):
        """Sleeps; False when the other side is gone."""
        if not self.wait:
            time.sleep(seconds)
            return True
        ready, _, _ = select.select([0], [], [], seconds)
        if not ready:
            return True
        text = os.read(0, 100)
        if b"go" in text and not self.leaking:
            self.leaking = True
            self.calls = 0
            self.started = time.monotonic()
        return bool(text)

    def due(self):
        """Calls that are due; few at a time, so that event loops turn and progress is told."""
        return min(int((time.monotonic() - self.started) * self.rate), self.calls + 10)

    def step(self):
        """Does what is due; False at the end."""
        now = time.monotonic()
        if now >= self.end:
            return False
        if not self.leaking:
            for n in range(self.churns):
                self.churn(n)
            return self.command(0.01)
        due = self.due()
        while self.calls < due:
            self.leak(self.calls)
            self.calls += 1
            for n in range(self.churns):
                self.churn(n)
        if now - self.said >= 0.1:
            self.said = now
            say({"time": time.time(), "calls": self.calls})
        return self.command(0.005)


def say(record):
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def drive(program, pace):
    if "run" in program:
        program["run"](pace.step)
    else:
        while pace.step():
            pass


def options_of(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--truth")
    return parser.parse_args(arguments)


def main(program):
    if program["__name__"] == "__main__":
        run(program)
        sys.stdout.flush()
        os._exit(0)  # no complaints about tasks and threads that are still there


def run(program):
    zoo = program["ZOO"]
    options = options_of(sys.argv[1:])
    if "requires" in zoo:
        try:
            importlib.import_module(zoo["requires"])
        except ImportError:
            say({"skip": "no module " + zoo["requires"]})
            return
    if "setup" in program:
        program["setup"]()
    if options.truth:
        for truth in measure(program, [int(n) for n in options.truth.split(",")]):
            say(truth)
        return
    if zoo.get("gc") is False:
        gc.disable()
    pace = Pace(program, options)
    say({"ready": True, "pid": os.getpid()})
    if zoo.get("thread"):
        thread = threading.Thread(target=drive, args=(program, pace))
        thread.start()
        thread.join()
    else:
        drive(program, pace)
    if options.wait:
        say({"calls": pace.calls})
        return
    command = [sys.executable, sys.argv[0], "--truth", str(pace.calls)]
    say({"calls": pace.calls, "truth": json.loads(subprocess.check_output(command))})
