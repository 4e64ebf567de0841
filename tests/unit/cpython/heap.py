# SPDX-License-Identifier: MIT OR GPL-2.0
"""A heap to be counted from outside.  First line: MINOR MICRO.  Then commands:

    stats   sys._debugmallocstats() on standard error, then silence until the next line
    keep    addresses of objects that live as long as this process
    drop    addresses of objects that are dead by the time they are told
    churn   allocates and frees at full speed from now on: "ok"
    sub     addresses of objects that live in a sub-interpreter of its own heap; "none" without
    grow N  keeps N MiB more of small objects, a tenth of them freed again: "ok"
"""
import os
import random
import sys

randomly = random.Random(4711)
kept = []
print(sys.version_info[1], sys.version_info[2], flush=True)


class Plain:
    def __init__(self, x):
        self.x = x


class Slotted:
    __slots__ = ("a", "b", "__weakref__")


def small_objects(i):
    plain, slotted = Plain(i), Slotted()
    slotted.a = plain
    return [10 ** 12 + i, "text %d" % i, b"x" * (i % 300 + 2), (i, i + 1, plain), [i], {i: i},
            {i, i + 1}, plain, slotted, 0.5 + i, lambda: i, (x for x in range(i)),
            bytearray(b"abc"), "\xe4%d" % i, frozenset((i, "a")), complex(i, 1)]


def mix(n):
    for i in range(n):
        kept.append(small_objects(i))
        if i % 3 == 0:
            kept.pop(randomly.randrange(len(kept)))


def tell(objects):
    print(*map(id, objects), flush=True)


def drop():
    # Of sizes that nothing else has here, so that nobody takes their place.
    objects = []
    for i in range(1000):
        objects.append(bytes(400 + i % 79))
        kept.append(bytes(400 + i % 79))  # so that pools are left half full
    text = " ".join(map(str, map(id, objects)))
    del objects[:]
    print(text, flush=True)


def churn():
    print("ok", flush=True)
    while True:
        [[], {}, "%d" % 5, (1, [2.5 * i for i in range(50)]), b"x" * 100]
        mix_of = [small_objects(i) for i in range(randomly.randrange(200))]
        del mix_of


def sub():
    try:
        import _interpreters as interpreters
    except ImportError:
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            interpreters = None
    if interpreters is None or sys.version_info < (3, 12):
        print("none", flush=True)
        return
    one = interpreters.create()
    kept.append(one)
    interpreters.run_string(one, "kept = [(i, str(i), [i]) for i in range(20000)]\n"
                                 "print(*map(id, kept[:3000]), flush=True)")


def grow(mebibytes):
    mine = []
    for i in range(mebibytes * 1200):
        mine.append(small_objects(i % 100))
    for i in range(0, len(mine), 10):
        mine[i] = None
    kept.append(mine)
    print("ok", flush=True)


def stats():
    print("now", flush=True)
    sys._debugmallocstats()
    os.read(0, 1)
    print("done", flush=True)


mix(20000)
for line in iter(lambda: os.read(0, 100), b""):
    words = line.split()
    if words[0] == b"stats":
        stats()
    elif words[0] == b"keep":
        tell([x for group in randomly.sample(kept, 300) for x in group])
    elif words[0] == b"drop":
        drop()
    elif words[0] == b"churn":
        churn()
    elif words[0] == b"sub":
        sub()
    elif words[0] == b"grow":
        grow(int(words[1]))
