# SPDX-License-Identifier: MIT OR GPL-2.0
"""glibc's heap seen from outside, against what a program says that it holds.

Several C libraries, one thread and four, with their caches and without. The program stands still
while it is read, so that its blocks and mallinfo()'s sums can be compared to the byte.
"""

import collections
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

import support

BUILD = support.ROOT / os.environ.get("BUILD", "build")
SYSTEM = Path(__file__).resolve().parent
ROOTS = ("host", "debian-3.9", "debian-3.13", "debian-3.14")  # glibc 2.36, 2.31, 2.41, 2.43
NO_CACHE = "glibc.malloc.tcache_count=0"
# A chunk that was freed between two free ones leaves its header behind in what became of them.
LEFT_BEHIND_RATIO_MAX = 0.02

pytestmark = pytest.mark.needs("root", "gcc")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("heap")
    calls, reader = directory / "heap_calls", directory / "heap_reader"
    subprocess.run(["gcc", "-Wall", "-Werror", "-O1", "-nostartfiles", "-Wl,--no-as-needed",
                    "-o", calls, SYSTEM / "heap_calls.c", "-l:libpthread.so.0"], check=True)
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Werror", "-g",
                    f"-I{support.ROOT}/include", f"-I{support.ROOT}/src",
                    "-o", reader, SYSTEM / "heap_reader.c",
                    *(BUILD / "lib" / f"{room}.a" for room in ("cpython", "target", "base")),
                    *"-lelf -ldw -lz -lZydis -lZycore -lm".split()], check=True)
    return calls, reader


def root_of(name):
    if name == "host":
        if platform.libc_ver()[0] != "glibc":
            pytest.skip("the C library at hand is not glibc")
        return Path("/")
    interpreter = support.interpreter(name)
    if not interpreter:
        pytest.skip(f"{name} is not at hand (make interpreters)")
    return interpreter.root


class Heap:
    """What the program holds, what it held, its sums, and what the reader says of them."""

    def __init__(self, programs, root, threads, tunables):
        calls, self.reader = programs
        if root != Path("/"):
            place = root / "srv" / f"heap_calls.{os.getpid()}"
            place.parent.mkdir(exist_ok=True)
            shutil.copy(calls, place)
            command = ["chroot", root, Path("/") / place.relative_to(root)]
        else:
            place, command = None, [calls]
        self.live, self.freed, self.totals = {}, {}, None
        process = support.start([*command, threads, 60000, 4711], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True,
                                env=support.environment(GLIBC_TUNABLES=tunables))
        try:
            self._hear(process)
            self._look(process.pid, root)
        finally:
            support.stop(process)
            if place:
                place.unlink()

    def _hear(self, process):
        for line in process.stdout:
            word, *rest = line.split()
            if word == "end":
                return
            if word == "totals":
                self.totals = tuple(map(int, rest))
            else:
                {"live": self.live, "freed": self.freed}[word][rest[0]] = int(rest[1])
        raise AssertionError("the program ended early")

    def _look(self, pid, root):
        libc = next(mapping for mapping in support.mappings(pid)
                    if os.path.basename(mapping.path).startswith("libc") and mapping.offset == 0
                    and "libpthread" not in mapping.path)
        inside = libc.path
        if root != Path("/") and Path(inside).is_relative_to(root):
            inside = "/" + str(Path(inside).relative_to(root))
        lines = subprocess.run([self.reader, str(pid), f"/proc/{pid}/root{inside}",
                                f"{libc.start:x}"], input="\n".join([*self.live, *self.freed]),
                               stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        self.said = [line.split() for line in lines[:-1]]
        system, free, mapped, complete, arenas = map(int, lines[-1].split()[1:])
        self.read_totals = (system, free, mapped)
        self.complete, self.arenas = bool(complete), arenas


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("tunables", ["", NO_CACHE], ids=["cached", "uncached"])
def test_chunks_and_totals_are_what_the_program_says(programs, name, threads, tunables):
    heap = Heap(programs, root_of(name), threads, tunables)
    assert heap.complete
    assert heap.read_totals == heap.totals
    assert (heap.arenas > 1) == (threads > 1)

    live = zip(heap.live.items(), heap.said)
    wrong = [(address, usable, said) for (address, usable), said in live
             if said[0] not in ("use", "map") or int(said[1]) != usable]
    assert not wrong, wrong[:10]

    freed = list(zip(heap.freed.items(), heap.said[len(heap.live):]))
    kinds = collections.Counter(said[0] for _, said in freed)
    same = [address for (address, usable), said in freed
            if said[0] in ("use", "map") and int(said[1]) == usable]
    assert len(freed) > 500 and kinds["free"] > 100
    assert len(same) <= LEFT_BEHIND_RATIO_MAX * len(freed), (len(same), kinds)
    assert kinds["unknown"] <= LEFT_BEHIND_RATIO_MAX * len(freed), kinds
