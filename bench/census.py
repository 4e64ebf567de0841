#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR GPL-2.0
"""Heaps of growing size, and what it costs to read them from outside (build/bench/census).

A heap holds objects of several types, a tenth of them freed again at random. While it is read, a
thread of its process, on a processor of its own, maps and unmaps a page in a loop: what that waits
more than beside a process that does nothing but spin, it waits for the process's mmap lock.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

TARGET = r"""
import ctypes, gc, os, random, struct, sys, threading, time
mebibytes, path = int(sys.argv[1]), sys.argv[2]
gc.disable()
class Plain:
    def __init__(self, x):
        self.x = x
randomly, kept = random.Random(1), []
for i in range(mebibytes * 1150):
    kept.append((Plain(i), {"key": i}, [i, i + 0.5], "text %d" % i, 10 ** 12 + i, (i, 0.5 * i),
                 b"x" * (i % 200), 1.5 * i))
for i in range(0, len(kept), 10):
    kept[randomly.randrange(len(kept))] = None
with open(path, "wb") as file:
    n = 0
    while n < 1000000:
        group = kept[randomly.randrange(len(kept))]
        for one in group or ():
            file.write(struct.pack("QQ", id(one), id(type(one))))
            n += 1
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p] + [ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                                          ctypes.c_int, ctypes.c_size_t]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
waits = []
def lock():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    while True:
        start = time.perf_counter()
        libc.munmap(libc.mmap(None, 4096, 3, 0x22, -1, 0), 4096)
        waits.append(time.perf_counter() - start)
        time.sleep(0.0005)
threading.Thread(target=lock, daemon=True).start()
time.sleep(0.5)
for line in sys.stdin:
    now, waits = waits, []
    now.sort()
    print(len(now), *("%.3f" % (1e3 * now[int(q * (len(now) - 1))]) for q in (.5, .99, .999, 1)),
          flush=True)
"""


def measure(python, bench, mebibytes, priority):
    elsewhere = [*priority.split(),
                 "taskset", "-c", str(min(os.sched_getaffinity(0)))]
    with tempfile.NamedTemporaryFile() as file:
        target = subprocess.Popen([python, "-c", TARGET, str(mebibytes), file.name],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def waits():
            target.stdin.write("\n")
            target.stdin.flush()
            return target.stdout.readline().split()

        try:
            waits()
            with subprocess.Popen([*elsewhere, python, "-c", "while True: pass"]) as spinning:
                time.sleep(5)
                spinning.kill()
            alone = waits()
            result = subprocess.run([*elsewhere, bench, str(target.pid), file.name],
                                    stdout=subprocess.PIPE, text=True, check=True).stdout
            during = waits()
        finally:
            target.kill()
            target.wait()
    print(f"== a heap of {mebibytes} MiB")
    print(result, end="")
    print("mmap and munmap, ms: median %s, 99 %% %s, 99.9 %% %s, max %s beside a spinning "
          "process; "
          "%s, %s, %s, %s while read" % (*alone[1:], *during[1:]), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", default=Path(os.environ.get("BUILD", ROOT / "build"))
                        / "bench" / "census")
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--mebibytes", type=int, nargs="+", default=[50, 200, 1000, 4000])
    parser.add_argument("--priority", default="",
                        help="a command before the reader: nice -n -20, chrt -f 1")
    options = parser.parse_args()
    for mebibytes in options.mebibytes:
        measure(options.python, options.bench, mebibytes, options.priority)
    return 0


if __name__ == "__main__":
    sys.exit(main())
