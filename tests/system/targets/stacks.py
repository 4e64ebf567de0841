# SPDX-License-Identifier: MIT OR GPL-2.0
"""Keeps objects at lines that are reached in many ways, and says what Python itself thinks of the
stack there.

After a line "go" each scenario calls mark(NAME, stack(NAME), bytes(SIZE)) COUNT times at one line,
where stack() is traceback.extract_stack(), and prints
{"stack": NAME, "frames": [[function, qualified name, file, line], ...]}, leaf first. The qualified
name is null where code objects have none (before 3.11). At the end {"done": NAMES}; then it waits
for the end of its input. With --gevent the greenlets' scenario only.
"""

import functools
import inspect
import json
import os
import re
import sys
import threading
import traceback

COUNT = 40
SIZE = 64
DEPTH = 300
KEPT = []
SAID = set()
SCENARIOS = []


def mark(name, frames, kept):
    """To be called with arguments that are made in the caller's line."""
    KEPT.append(kept)
    if frames:
        say({"stack": name, "frames": frames})
    return 0


def stack(name):
    """The caller's stack in Python's own words, when it is asked for the first time."""
    if name in SAID:
        return None
    SAID.add(name)
    frame = sys._getframe(1)
    summary = traceback.extract_stack(frame)
    qualified = []
    while frame is not None:
        qualified.append(getattr(frame.f_code, "co_qualname", None))
        frame = frame.f_back
    frames = [[entry.name, own, entry.filename, entry.lineno]
              for entry, own in zip(reversed(summary), qualified)]
    assert len(frames) == len(summary) == len(qualified)
    return frames


def say(record):
    os.write(1, (json.dumps(record) + "\n").encode())


def scenario(function):
    SCENARIOS.append(function)
    return function


@scenario
def plain_calls():
    def inner(n, *more, key=None):
        for _ in range(n):
            mark("plain_calls", stack("plain_calls"), bytes(SIZE))

    functools.partial(inner, key=2)(
        COUNT,
        3)


@scenario
def generators():
    def innermost():
        for _ in range(COUNT):
            yield mark("generators", stack("generators"), bytes(SIZE))

    def delegating():
        yield from innermost()

    def filtering(source):
        for value in source:
            yield value

    total = sum(value for value in filtering(delegating()))
    assert total == 0


@scenario
def generators_left_suspended():
    """A frame that was left lies in its generator; what follows is no caller of it."""
    def counting():
        number = 0
        while True:
            number += 1
            yield number

    waiting = [counting() for _ in range(10)]
    for source in waiting:
        next(source)
    for _ in range(COUNT):
        next(waiting[3])
        mark("generators_left_suspended", stack("generators_left_suspended"), bytes(SIZE))


@scenario
def coroutines():
    import asyncio

    async def leaf():
        mark("coroutines", stack("coroutines"), bytes(SIZE))

    async def middle():
        await asyncio.sleep(0)
        await leaf()

    async def task():
        for _ in range(COUNT):
            await middle()

    async def main():
        await asyncio.gather(task())

    asyncio.run(main())


@scenario
def asynchronous_generators():
    import asyncio

    async def numbers():
        for number in range(COUNT):
            await asyncio.sleep(0)
            mark("asynchronous_generators", stack("asynchronous_generators"), bytes(SIZE))
            yield number

    async def main():
        async with asyncio.Lock():
            assert sum([number async for number in numbers()]) == COUNT * (COUNT - 1) // 2

    asyncio.run(main())


@scenario
def a_key_of_sorted():
    def key(value):
        mark("a_key_of_sorted", stack("a_key_of_sorted"), bytes(SIZE))
        return -value
    sorted(range(COUNT), key=key)


@scenario
def a_step_of_reduce():
    functools.reduce(
        lambda left, right: mark("a_step_of_reduce", stack("a_step_of_reduce"), bytes(SIZE)),
        range(COUNT + 1))


@scenario
def a_replacement_of_re():
    def replacement(match):
        mark("a_replacement_of_re", stack("a_replacement_of_re"), bytes(SIZE))
        return match.group().upper()
    re.sub("a", replacement, "a" * COUNT)


@scenario
def special_methods():
    class Item:
        def __init__(self, value):
            self.value = value

        def __lt__(self, other):
            return self.value < other.value

        def __getattr__(self, name):
            mark("special_methods", stack("special_methods"), bytes(SIZE))
            return self

        def __hash__(self):
            return hash(self.missing.value)

    {Item(number): number for number in range(COUNT)}


@scenario
def a_finalizer():
    class Resource:
        def __del__(self):
            mark("a_finalizer", stack("a_finalizer"), bytes(SIZE))

    def drop():
        resource = Resource()
        del resource

    for _ in range(COUNT):
        drop()


@scenario
def a_class_body():
    class Body:
        values = [mark("a_class_body", stack("a_class_body"), bytes(SIZE))
                  for _ in range(COUNT)]


@scenario
def an_exception_handler():
    class Context:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            mark("an_exception_handler", stack("an_exception_handler"), bytes(SIZE))
            return True

    for _ in range(COUNT):
        try:
            with Context():
                raise KeyError
        finally:
            pass


@scenario
def compiled_text():
    text = "\n" * 700 + "for _ in range(count):\n" + "\n" * 300 + \
        " mark('compiled_text', stack('compiled_text'), bytes(size))\n"
    code = compile(text, "/srv/made up/temporär.py", "exec")
    KEPT.append(code)  # what is gone before it is looked at has no name in the report
    exec(code,
         {"mark": mark, "stack": stack, "count": COUNT, "size": SIZE})


@scenario
def a_module_that_is_imported():
    import importlib.abc
    import importlib.util

    class Loader(importlib.abc.Loader):
        def create_module(self, spec):
            return None

        def exec_module(self, module):
            for _ in range(COUNT):
                mark("a_module_that_is_imported", stack("a_module_that_is_imported"), bytes(SIZE))

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "made_up_module":
                return importlib.util.spec_from_loader(name, Loader())
            return None

    sys.meta_path.insert(0, Finder())
    try:
        import made_up_module  # noqa: F401
    finally:
        sys.meta_path.pop(0)


@scenario
def deep_recursion():
    def descend(depth):
        if depth:
            return descend(depth - 1)
        for _ in range(COUNT):
            mark("deep_recursion", stack("deep_recursion"), bytes(SIZE))
    descend(DEPTH)


@scenario
def deep_recursion_through_c():
    def descend(depth):
        if depth:
            return list(map(descend, [depth - 1]))
        for _ in range(COUNT):
            mark("deep_recursion_through_c", stack("deep_recursion_through_c"), bytes(SIZE))
    descend(60)


@scenario
def threads_at_the_same_time():
    """Each has callers of its own; they take the GIL from each other as often as they can."""
    def first(n):
        mark("thread_first", stack("thread_first"), bytes(SIZE))

    def second(n):
        mark("thread_second", stack("thread_second"), bytes(SIZE))

    def below_first(n):
        first(n)

    def run(function):
        start.wait()
        for number in range(COUNT):
            function(number)

    start = threading.Barrier(2)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=run, args=(function,)) for function in (below_first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)


# It has modules of its own, and so its own copies of these functions.
SUB_INTERPRETER = """
import json, os, sys, traceback
KEPT, SAID = [], set()
def inside():
    for _ in range(%d):
        mark("a_sub_interpreter", stack("a_sub_interpreter"), bytes(%d))
""" % (COUNT, SIZE)


def _interpreters():
    try:
        import _interpreters
    except ImportError:
        import _xxsubinterpreters as _interpreters
    return _interpreters


@scenario
def a_sub_interpreter():
    try:
        interpreters = _interpreters()
    except ImportError:
        return
    run = getattr(interpreters, "run_string", None) or interpreters.exec
    number = interpreters.create()
    KEPT.append(number)  # without it, the interpreter goes
    functions = "".join(inspect.getsource(function) for function in (mark, stack, say))
    told, tell = os.pipe()
    # Its module's code is not to be gone before it is looked at: it waits for input that never is.
    end = "inside(); os.write(%d, b'.'); os.read(%d, 1)\n" % (tell, os.pipe()[0])
    threading.Thread(target=run, args=(number, SUB_INTERPRETER + functions + end),
                     daemon=True).start()
    os.read(told, 1)


def greenlets():
    """A greenlet's frames end where it begins, however often it is left and taken up again."""
    import gevent

    def leaf(name):
        gevent.sleep(0)
        if name == "even":
            mark("greenlet_even", stack("greenlet_even"), bytes(SIZE))
        else:
            mark("greenlet_odd", stack("greenlet_odd"), bytes(SIZE))

    def even():
        for _ in range(COUNT):
            leaf("even")

    def odd(depth):
        if depth:
            return odd(depth - 1)
        for _ in range(COUNT):
            leaf("odd")

    gevent.joinall([gevent.spawn(even), gevent.spawn(odd, 5)], raise_error=True)


def main():
    chosen = [greenlets] if "--gevent" in sys.argv else SCENARIOS
    # What is imported now is not in the way later.
    import asyncio  # noqa: F401
    if "--gevent" in sys.argv:
        import gevent  # noqa: F401
    say({"ready": True, "pid": os.getpid()})
    os.read(0, 100)
    for function in chosen:
        function()
    say({"done": sorted(SAID)})
    while os.read(0, 100):
        pass
    os._exit(0)  # the sub-interpreter is still waiting


main()
