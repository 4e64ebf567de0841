# SPDX-License-Identifier: MIT OR GPL-2.0
"""What an interpreter says of itself, for comparison; then it waits.

    version TEXT
    pid N
    thread IDENT NATIVE_ID      one line a thread; NATIVE_ID 0 before 3.8
    code_type N                 address of the code type
    arenas N                    allocated now, by sys._debugmallocstats(); 0 without pymalloc
    ready
"""
import os
import re
import sys
import tempfile
import threading


def arenas():
    """sys._debugmallocstats() writes to the C library's stderr."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as stats:
        os.dup2(stats.fileno(), 2)
        sys._debugmallocstats()
        os.dup2(saved, 2)
        os.close(saved)
        stats.seek(0)
        text = stats.read().decode()
    return sum(map(int, re.findall(r"# arenas allocated current\s*=\s*(\d+)", text)))


kept = [[n] for n in range(40000)]
stop = threading.Event()
threads = [threading.Thread(target=stop.wait, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()


def spin():
    """Holds the GIL at most moments, so that a thread state is current."""
    while not stop.is_set():
        for _ in range(10000):
            pass


if "spin" in sys.argv[1:] or os.environ.get("TRUTHS_SPIN"):
    threads.append(threading.Thread(target=spin, daemon=True))
    threads[-1].start()

print("version", sys.version.split()[0])
print("pid", os.getpid())
for thread in threading.enumerate():
    print("thread", thread.ident, thread.native_id)
print("code_type", id(type(spin.__code__)))
print("arenas", arenas())
print("ready")
sys.stdout.flush()
sys.stdin.readline()
