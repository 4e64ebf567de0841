# SPDX-License-Identifier: MIT OR GPL-2.0
"""The mixed workload: everything that makes objects, a share of which is kept.

Speaks JSON lines. A line "work N" on its input runs N rounds; after each command it says
{"done": rounds, "classes": {size: blocks}, "blocks": N}: the pools' own counters, by
sys._debugmallocstats(), which allocates nothing, and with the larger blocks that went on to the C
library, sys.getallocatedblocks(). Ends with its input.
"""

import collections
import dataclasses
import datetime
import decimal
import gc
import json
import os
import re
import struct
import sys
import tempfile
import threading

try:
    import sqlite3
except ImportError:
    sqlite3 = None

KEPT = []
SHARE = 3  # one in so many of what is made is kept
STATISTICS = tempfile.TemporaryFile(buffering=0)
ERROR = os.dup(2)
ROW = re.compile(r"^ *\d+ +(\d+) +\d+ +(\d+) +\d+ *$", re.MULTILINE)


@dataclasses.dataclass
class Order:
    number: int
    lines: list
    note: str = ""


class Node:
    def __init__(self, value, parent):
        self.value = value
        self.parent = parent


class Slots:
    __slots__ = ("left", "right")


def numbers(count):
    for n in range(count):
        yield n * 1.5


def closure(n):
    return lambda: n


def failing(n):
    try:
        raise ValueError("value %d" % n)
    except ValueError as error:
        return error


def makers(n, database):
    yield json.loads(json.dumps({"id": n, "tags": ["a%d" % n, n * 0.25, None, True]}))
    yield re.findall(r"\w+", "some words %d and %d more" % (n, n + 1))
    yield "x".join(str(i) for i in range(n % 20))
    yield "%d" % n * 30
    yield {i: str(i) for i in range(n % 30)}
    yield [i * n for i in range(n % 100)]
    yield {(i, n) for i in range(n % 12)}
    yield Node(n, Node(n + 1000, None))
    yield Order(n, [n, n + 500], f"order {n:>8} {n * 0.1:.3f}")
    slots = Slots()
    slots.left, slots.right = n + 10000, float(n)
    yield slots
    yield closure(n)
    generator = numbers(n % 40 + 2)
    next(generator)
    yield generator
    yield list(numbers(n % 40))
    yield failing(n)
    yield struct.unpack("<IdH", struct.pack("<IdH", n, n * 0.5, n % 60000))
    yield bytes(n % 700)
    yield bytearray(n % 300)
    yield datetime.datetime(2020, 1, 1) + datetime.timedelta(seconds=n)
    yield decimal.Decimal(n) / decimal.Decimal(7)
    yield collections.deque(range(n % 70))
    yield frozenset(range(n % 9))
    yield (n, str(n), [n])
    yield 1 << (n % 900)
    yield complex(n, 1)
    yield slice(n, n + 1)
    yield Node(n, None).__init__
    if database:
        database.execute("insert into t values (?, ?)", (n, "row %d" % n))
        yield database.execute("select * from t where n = ?", (n,)).fetchall()


def work(rounds, database, kept):
    for n in range(rounds):
        for i, made in enumerate(makers(n, database)):
            if (n + i) % SHARE == 0:
                kept.append(made)
    if database:
        database.execute("delete from t")


def threaded(rounds):
    kept = [[] for _ in range(3)]
    threads = [threading.Thread(target=work, args=(rounds, None, kept[i])) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    KEPT.append(kept)


def counters():
    os.ftruncate(STATISTICS.fileno(), 0)
    os.lseek(STATISTICS.fileno(), 0, os.SEEK_SET)
    os.dup2(STATISTICS.fileno(), 2)
    sys._debugmallocstats()
    os.dup2(ERROR, 2)
    STATISTICS.seek(0)
    text = STATISTICS.read().decode("ascii", "replace")
    return {size: int(count) for size, count in ROW.findall(text)}


def main():
    database = None
    if sqlite3:
        database = sqlite3.connect(":memory:", isolation_level=None)
        database.execute("create table t (n integer, text text)")
    work(50, database, [])
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        rounds = int(line.split()[1])
        work(rounds, database, KEPT)
        threaded(rounds // 4)
        gc.collect()  # garbage of one session is not to die in the next
        blocks = sys.getallocatedblocks()
        print(json.dumps({"done": rounds, "classes": counters(), "blocks": blocks}), flush=True)


main()
