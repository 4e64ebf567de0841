# SPDX-License-Identifier: MIT OR GPL-2.0
"""Objects of many types, and what this interpreter says of them.

First line: MINOR MICRO.  Then commands, each answered by lines and an empty one:

    buffers  ADDRESS TYPE NAME WHAT SIZES…: sizes of the raw buffers that the object owns, by
             sys.getsizeof; ">" after NAME: at least one, of sizes unknown; "=": exactly these
    types    NAME LEAST MOST: how many live objects of a type there are in small blocks
    parked   ADDRESSES: objects that lie on a free list
    names    ADDRESS NAME: of types
"""
import array
import collections
import dataclasses
import datetime
import decimal
import gc
import io
import os
import sys

MINOR = sys.version_info[1]
print(MINOR, sys.version_info[2], flush=True)


OUTSIDE = 1 << 20  # any size that is none of a pool's blocks


class Plain:
    def __init__(self, x):
        self.x = x
        self.y = x


class Slotted:
    __slots__ = ("a", "b", "c", "__weakref__")


class Outer:
    class Inner:
        pass


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


class MyDict(dict):
    pass


class MyList(list):
    pass


class MyStr(str):
    pass


class MyInt(int):
    pass


class MyTuple(tuple):
    pass


class MyError(ValueError):
    pass


class MySet(set):
    __slots__ = ()


class set(set):  # no built-in type, whatever it is called
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: float


kept = []


def rest(x, basic=None):
    return x.__sizeof__() - (basic or type(x).__basicsize__)


def utf8_cached(text):
    before = text.__sizeof__()
    compile(text, "made up", "exec")
    return text, text.__sizeof__() - before


def told(x, how="=", *sizes):
    kept.append(x)
    sizes = [n for n in sizes if n]
    print(id(x), id(type(x)), type(x).__qualname__, how, *sizes)


def arrays():
    """Their data and shapes are the C library's, of whatever size."""
    try:
        import numpy
    except ImportError:
        return
    for n in 1, 3, 60, 10000:
        array = numpy.ones(n)
        told(array, "=", OUTSIDE, OUTSIDE)
        told(array[:1], "=", OUTSIDE)
        told(array.reshape(n, 1), "=", OUTSIDE)
        told(numpy.frombuffer(bytes(8 * n)), "=", OUTSIDE)
        told(numpy.matrix(range(n)).copy(), "=", OUTSIDE, OUTSIDE)
    told(numpy.array(1.5), "=", OUTSIDE)


def buffers():
    for n in 1, 3, 10, 60, 61, 1000:
        told([0] * n, "=", rest([0] * n))
        grown = []
        for i in range(n):
            grown.append(i)
        told(grown, "=", rest(grown))
        table = {i: i for i in range(n)}
        told(table, "=", rest(table))
        table = {str(i): i for i in range(n)}
        told(table, "=", rest(table))
        told({i for i in range(n)}, "=", rest({i for i in range(n)}))
        told(frozenset(range(n)), "=", rest(frozenset(range(n))))
        data = bytearray(b"x" * n)
        told(data, "=", *(() if MINOR >= 15 else (rest(data),)))
        told(array.array("i", range(n)), "=", rest(array.array("i", range(n))))
        told(array.array("i", range(n)).tolist()[:n], "=", 8 * n)
        told(MyDict({i: i for i in range(n)}), ">")
        told(MyList(range(n)), ">")
        told(MySet(range(n)), "=", rest(MySet(range(n))))
        told(MyStr("text" * n), "=", rest(MyStr("text" * n), str.__basicsize__))
        told(MyStr("t\u20act" * n), "=", rest(MyStr("t\u20act" * n), str.__basicsize__))
        text, cached = utf8_cached("\xe4%d = 1" % n)
        told(text, "=", cached)
        text, cached = utf8_cached("\u540d%d = 1" % n)
        told(text, "=", cached)
        told("ascii %d" % n, "=")
        told("\xe4 %d" % n, "=")
        told(10 ** n, "=")
        told((1,) * n, "=")
        told(b"x" * n, "=")
        queue = collections.deque(range(n))
        told(queue, "=", *[528] * min(8, rest(queue) // 528))
        ordered = collections.OrderedDict((i, i) for i in range(n))
        told(ordered, ">")
        stream = io.StringIO("text" * n)
        told(stream, ">")
        stream = io.StringIO()
        stream.write("text" * n)
        # Its buffer is the C library's, as of a request for nothing; up to 3.13 the writer is
        # part of the object.
        told(stream, "=", OUTSIDE, *((56,) if MINOR >= 14 else ()))
    arrays()
    told({}, "=")
    told([], "=")
    told(0.5, "=")
    told(Outer.Inner, ">")
    one = Slotted()
    one.a = one
    told(one, "=")
    for _ in range(3):
        told(Plain(1), ">" if MINOR in (11, 12) else "=")
    for _ in range(3):
        one = Plain(2)
        attributes = vars(one)
        told(one, "=")
        told(attributes, "=" if MINOR >= 13 else ">")
    one = Plain(3)
    for i in range(100):
        setattr(one, "attribute%d" % i, i)
    told(one, "=")
    told(vars(one), ">")


many = []


def types():
    for i in range(5000):
        many.append((Plain(i), Slotted(), Outer.Inner(), WithMeta(), MyDict(), MyList(), MyStr(i),
                     MyInt(i), MyTuple((i,)), MyError(i), MySet(), set(), Point(i, 0.5 + i),
                     lambda: i, (x for x in many), 10 ** 30 + i, "text %d" % i, b"%d" % i,
                     datetime.datetime(2000, 1, 1), decimal.Decimal(i), [i], [i, i, i, i],
                     [int, str, None, float], io.BytesIO(), 1.5 + i, {i: int}, iter([i]),
                     datetime.timedelta(i), collections.deque(), slice(i, i), range(i, i + 2)))
    gc.collect()
    exact = dict.fromkeys("Plain Slotted Outer.Inner WithMeta MyDict MyList MyStr MyInt MyTuple"
                          " MyError MySet Point BytesIO set".split(), 5000)
    at_least = {"Decimal": 5000, "datetime": 5000, "timedelta": 4990, "deque": 5000,
                "range": 5000, "slice": 4999}
    slack = 300
    counts = collections.Counter(type(x).__name__ for x in gc.get_objects()
                                 if sys.getsizeof(x) <= 480)
    for name in "list", "function", "generator", "cell", "builtin_function_or_method", "property":
        print(name, counts[name] - 20, counts[name] + 20)
    for name, count in exact.items():
        if name != "set":
            print(name, count, count)
    for name, count in at_least.items():
        print(name, count, count + slack)
    print("list_iterator", 5000, 10000 + slack)  # a generator makes its own early or late
    print("float", 10000, 10000 + 2000)
    print("int", 5000, 5000 + 12000)
    print("bytes", 5000, 5000 + 15000)
    print("str", 5000, 5000 + 60000)


def parked():
    floats = [i + 0.25 for i in range(1000)]
    addresses = [id(x) for x in floats]
    taken = [i + 0.75 for i in range(500)]  # empties the free list
    kept.append(taken)
    del floats[80:]
    kept.append([i + 0.125 for i in range(1000)])
    text = " ".join(map(str, addresses[:80]))
    del floats[:]
    print(text)


def names():
    for x in (Plain, Slotted, Outer.Inner, Meta, WithMeta, MyDict, Point, dict, list, int, type,
              object, datetime.datetime, decimal.Decimal, collections.deque,
              collections.OrderedDict, collections.defaultdict, array.array, io.StringIO,
              type(lambda: 0), type(print), type(x for x in []), type(None), ValueError,
              collections.namedtuple("Named", "a b"), type("\u540d\xe4", (), {}),
              type("x" * 3000, (), {})):
        kept.append(x)
        print(id(x), x.__qualname__[:1023])


for line in iter(lambda: os.read(0, 100), b""):
    {"buffers": buffers, "types": types, "parked": parked, "names": names}[
        line.decode().strip()]()
    print(flush=True)
