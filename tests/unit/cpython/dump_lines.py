# SPDX-License-Identifier: MIT OR GPL-2.0
"""What this interpreter itself says of the lines of its standard library.

First line: the name of its line table's format.  Then a line for each code
object: first line, table in hexadecimal ("-" when empty), and the line of each
two-byte code unit, 0 where there is none.  Last line: "end".
"""
import dis
import importlib.util
import sys
import types

MODULES = (
    "argparse asyncio.base_events collections dataclasses _pydecimal difflib enum"
    " inspect json.decoder logging pickle subprocess tarfile threading typing zipfile"
).split()
# What the library has little of: big jumps of the line, both ways, and of the offset.
CURIOUS = (
    "def far():\n" + "\n" * 700 + "    return (1 +\n" + "\n" * 300 + "  f(\n\n\n 2))\n"
    "def wide(a): return [" + ", ".join("a.b(%d)" % i for i in range(400)) + "]\n"
    "def tries(a):\n try:\n  with a as b, a.c as d:\n   yield (\n    b,\n\n  d)\n"
    " finally:\n  a.\\\n   close()\n"
)


def code_objects(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)


def lines_of(code):
    lines = [0] * (len(code.co_code) // 2)
    if hasattr(code, "co_lines"):
        ranges = [(start, end, line or 0) for start, end, line in code.co_lines()]
    else:
        starts = list(dis.findlinestarts(code))
        ends = [offset for offset, _ in starts[1:]] + [len(code.co_code)]
        ranges = [(start, end, line) for (start, line), end in zip(starts, ends)]
    for start, end, line in ranges:
        lines[start // 2:end // 2] = [line] * (end // 2 - start // 2)
    return lines


def main():
    minor = sys.version_info[1]
    print("lnotab" if minor < 10 else "linetable310" if minor == 10 else "locations311")
    codes = [compile(CURIOUS, "curious", "exec")]
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        if spec is not None:
            codes.append(spec.loader.get_code(name))
    for module in codes:
        for code in code_objects(module):
            table = code.co_lnotab if minor < 10 else code.co_linetable
            print(code.co_firstlineno, table.hex() or "-", *lines_of(code))
    print("end")


main()
