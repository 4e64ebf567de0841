# SPDX-License-Identifier: MIT OR GPL-2.0
"""A stack of many shapes; at its top, what the interpreter itself says of its frames.

A line each: address of the frame object, of the code object, line, first line,
function and file as hexadecimal UTF-8.  Then an empty line, and commands:

    hold TEXT   makes a code object called TEXT: "ADDRESS"
    drop        drops it: "ok"
    reuse TEXT  makes ones called TEXT until one has the address of the dropped one: "ok" or "no"
"""
import sys
import threading

print(sys.version_info[1], sys.version_info[2], id(type((lambda: 0).__code__)))
kept = []


def utf8(text):
    return text.encode("utf-8", "replace").hex() or "-"


def told(frame):
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name)
    return (id(frame), id(code), frame.f_lineno or 0, code.co_firstlineno, utf8(name),
            utf8(code.co_filename))


def tell_all():
    frame = sys._getframe(1)
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    for generator in kept:
        frames.append(generator.gi_frame)
    for frame in frames:
        print(*told(frame))
    kept.append(frames)
    print()
    sys.stdout.flush()
    serve()


template = compile("lambda: 0", "made up", "eval")


def named(name):
    return template.replace(co_name=name, **(
        {"co_qualname": name} if sys.version_info >= (3, 11) else {}))


def serve():
    held = None
    for line in sys.stdin:
        command, _, text = line.strip().partition(" ")
        if command == "hold":
            held = named(text)
            address = id(held)
            print(address)
        elif command == "drop":
            held = None
            print("ok")
        elif command == "reuse":
            tries = []
            while id(held) != address and len(tries) < 10000:
                held = named(text)
                tries.append(held)
            print("ok" if id(held) == address else "no")
        sys.stdout.flush()


def generator_function(n):
    for i in range(n):
        yield (
            i +
            n
        )


class Outer:
    class Inner:
        def method(self, callback, *arguments):
            try:
                with self as unused:
                    return [
                        callback(*arguments) for _ in
                        range(1)
                    ]
            finally:
                pass

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return False

        def __add__(self, other):
            return other()


def größe(x):
    return (lambda:
            名前(
                x))()


def 名前(x):
    exec(compile("\n" * 5000 + "x()", "tief/" + "ä" * 5000, "exec"), {"x": x})


def 𐍈x(x):
    return Outer.Inner() + x


def long_name():
    """A function whose name is longer than any limit, and one that is an instance of str only."""

    class Text(str):
        pass

    code = (lambda x: x()).__code__
    f = type(long_name)(code.replace(co_name="é" * 3000, **(
        {"co_qualname": "é" * 3000} if sys.version_info >= (3, 11) else {})), globals())
    g = type(long_name)(code.replace(co_name=Text("text ä 語"), **(
        {"co_qualname": Text("text ä 語")} if sys.version_info >= (3, 11) else {})), globals())
    return f(lambda: g(lambda: max([0],
                                   key=lambda _: sorted([1], key=lambda _: tell_all()))))


def from_generator():
    yield 𐍈x(
        long_name)


for i in range(3):
    one = generator_function(9)
    for _ in range(i):
        next(one)
    kept.append(one)
thread = threading.Thread(target=Outer.Inner().method, args=(größe, lambda: next(from_generator())))
thread.start()
thread.join()
