# SPDX-License-Identifier: MIT OR GPL-2.0
"""Objects that live, die, change and are followed by others, and what became of them.

First line: MINOR MICRO.  Then commands, each answered by lines and an empty one:

    make    ADDRESS TYPE KIND for some thousands of objects
    again   ADDRESS ANSWERS KIND for each of them: which answers a second look may give by now

    zombies ADDRESS TYPE KIND for objects whose count says 0, in blocks that are never given back

    sizes   ADDRESS TYPE SIZE of objects with one raw buffer, and its bytes

ANSWERS: letters; l live, c changed, d dead, r another one, p parked, z zombie.
"""
import collections
try:
    import ctypes
except ImportError:
    ctypes = None
import os
import sys

MINOR = sys.version_info[1]
N = 300
print(MINOR, sys.version_info[2], flush=True)


class Plain:
    def __init__(self, x):
        self.x = "plain %d" % x
        self.y = x


class Slotted:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self, x):
        self.a = "slotted %d" % x
        self.b = 10 ** 12 + x


class Named(collections.namedtuple("Named", "a b")):
    pass


class MyDict(dict):
    pass


class Text(str):
    pass


def grown(x):
    made = [x]
    made.extend(range(x % 30))
    return made


MAKERS = {
    "float": lambda x: x + 0.25, "int": lambda x: 10 ** 15 + x, "str": lambda x: "text %d" % x,
    "wide": lambda x: "\u20ac %d" % x, "latin": lambda x: "\xe4 %d" % x,
    "bytes": lambda x: b"bytes %d" % x, "tuple": lambda x: (x, "t%d" % x),
    "list": grown, "dict": lambda x: {"a": x, "b": "v%d" % x}, "set": lambda x: {x, x + 1},
    "frozenset": lambda x: frozenset((x, "a")), "complex": lambda x: complex(x, 1),
    "bytearray": lambda x: bytearray(b"array %d" % x), "function": lambda x: (lambda: x),
    "plain": Plain, "slotted": Slotted, "named": lambda x: Named(x, "n%d" % x),
    "mydict": lambda x: MyDict(a=x), "text": lambda x: Text("subclass %d" % x),
    "deque": lambda x: collections.deque([x]), "generator": lambda x: (y for y in range(x)),
    "method": lambda x: Plain(x).__init__, "long str": lambda x: "%0300d" % x,
    "slice": lambda x: slice(x, x + 10 ** 10), "big str": lambda x: "%d %0700d" % (x, 1),
    "big bytes": lambda x: b"%d %0900d" % (x, 1), "big tuple": lambda x: tuple(range(x, x + 80)),
    "huge bytes": lambda x: b"%d %0*d" % (x, 200000 if x % 100 < 3 else 1000, 1),
}


def touch(kind, one):
    """Uses an object as programs do: what may change in it does."""
    hash_of = None
    try:
        hash_of = hash(one)
    except TypeError:
        pass
    if isinstance(one, list):
        one.append(1)
    elif isinstance(one, dict):
        one["another"] = 2
    elif isinstance(one, set):
        one.add(-1)
    elif isinstance(one, bytearray):
        one.extend(b"more")
    elif isinstance(one, collections.deque):
        one.append(one[0])
    elif isinstance(one, (Plain, Slotted)):
        one.__class__.x if kind == "slotted" and hasattr(Slotted, "x") else None
        setattr(one, "b" if kind == "slotted" else "z", 10 ** 12 + 1)
    elif kind == "generator":
        next(one, None)
    elif isinstance(one, str):
        sys.intern(one) if type(one) is str else None
    return hash_of


kept = {kind: [] for kind in MAKERS}
touched = {kind: [] for kind in MAKERS}
dying = {kind: [] for kind in MAKERS}
told = {}


def tell(kind, one, fate):
    told[id(one)] = (kind, fate)
    print(id(one), id(type(one)), kind.replace(" ", "_"))


def make():
    for kind, maker in MAKERS.items():
        for x in range(1000, 1000 + 3 * N):
            one = maker(x)
            where = (kept, touched, dying)[x % 3]
            where[kind].append(one)
            tell(kind, one, "ltd"[x % 3])


CHANGES = ("list", "dict", "set", "bytearray", "deque", "plain", "slotted", "mydict", "generator")


def again():
    for kind in MAKERS:
        for one in touched[kind]:
            touch(kind, one)
        del one
    for kind in MAKERS:
        dying[kind].clear()
    keep_busy()
    alive = {}
    for kind in MAKERS:
        for one in kept[kind]:
            alive[id(one)] = "l"
        for one in touched[kind]:
            alive[id(one)] = "lc" if kind in CHANGES else "l"
        del one
    for address, (kind, fate) in told.items():
        answers = alive.get(address, "drpc")
        print(address, answers, kind.replace(" ", "_"))


later = []


def keep_busy():
    """Others take some of the places of the dead."""
    for kind, maker in MAKERS.items():
        for x in range(50000, 50000 + N // 3):
            later.append(maker(x))


def sizes():
    for n in 1, 10, 60, 70, 500, 5000, 100000:
        for make in (lambda: [0] * n, lambda: bytearray(n), lambda: set(range(6 + n)),
                     lambda: {i: i for i in range(n)}):
            one = make()
            later.append(one)
            if MINOR < 15 or not isinstance(one, bytearray):
                print(id(one), id(type(one)), one.__sizeof__() - type(one).__basicsize__)


def zombies():
    if not ctypes:
        return
    dead = [Slotted(x) for x in range(N)]
    addresses = [id(one) for one in dead]
    for i, one in enumerate(dead):
        later.append(one)
        del one
        print(addresses[i], id(Slotted), "slotted")
    del dead
    for address in addresses:
        ctypes.c_uint32.from_address(address).value = 0


for line in iter(lambda: os.read(0, 100), b""):
    {"make": make, "again": again, "zombies": zombies, "sizes": sizes}[line.decode().strip()]()
    print(flush=True)
