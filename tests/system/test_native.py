# SPDX-License-Identifier: MIT OR GPL-2.0
"""The malloc family seen by its probes, against what a program says that it called and got.

Every block comes once, with its address and usable size; every free comes once; and nothing else
comes from those calls. What the C library does for itself (threads' control blocks) may come too.
"""

import json
import os
import platform
import struct
import subprocess
from pathlib import Path

import pytest

import support

BUILD = support.ROOT / os.environ.get("BUILD", "build")
SYSTEM = Path(__file__).resolve().parent
ROOMS = ("capture", "probes", "cpython", "target", "base")
FROM_INTERPRETER = 4
OUTSIDE_MAX = 16  # records of the C library's own doing, a thread

CALLS = ("malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc",
         "memalign", "valloc", "pvalloc", "free")
# Called without anything of the library in between: the return address is the caller's.
DIRECT = ("malloc", "calloc", "realloc")

pytestmark = pytest.mark.needs("root", "btf", "uprobe-multi", "gcc", "pyleakd")

NO_CACHE = "glibc.malloc.tcache_count=0"
BIG_CACHE = "glibc.malloc.tcache_max=1048576"  # from 2.42 on


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("native")
    calls, records = directory / "calls", directory / "records"
    subprocess.run(["gcc", "-Wall", "-Werror", "-O1", "-nostartfiles", "-Wl,--no-as-needed",
                    "-o", calls, SYSTEM / "native_calls.c", "-l:libpthread.so.0"], check=True)
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Werror", "-g",
                    f"-I{support.ROOT}/include", f"-I{support.ROOT}/src",
                    "-o", records, SYSTEM / "native_records.c",
                    *(BUILD / "lib" / f"{room}.a" for room in ROOMS),
                    *"-lbpf -lelf -ldw -lz -lZydis -lZycore -lm".split()], check=True)
    return calls, records


# --- running -------------------------------------------------------------------------------------

class Run:
    """The program under the probes: `log` by thread, `records` by thread, what was lost."""

    def __init__(self, programs, root, threads=1, operations=4000, seed=1, mode=None, tunables=""):
        self.calls, self.reader = programs
        self.log, self.records, self.sites, self.lost = {}, {}, [], []
        arguments = [str(threads), str(operations), str(seed)] + [mode] * bool(mode)
        target = support.start(self._command(root) + arguments, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE,
                               env=support.environment(GLIBC_TUNABLES=tunables))
        try:
            ready = target.stdout.readline().split()
            assert ready[0] == b"ready", ready
            with self._attach(target.pid, root, ready[2:]) as reader:
                self._follow(target, reader)
        finally:
            support.stop(target)

    def _command(self, root):
        if root == Path("/"):
            return [self.calls]
        place = root / "srv" / "native_calls"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(self.calls.read_bytes())
        place.chmod(0o755)
        return ["chroot", root, "/srv/native_calls"]

    def _attach(self, pid, root, addresses):
        libc = next(mapping for mapping in support.mappings(pid)
                    if os.path.basename(mapping.path).startswith("libc") and mapping.offset == 0
                    and "libpthread" not in mapping.path)
        file = f"/proc/{pid}/root{self._inside(libc.path, root)}"
        return support.start([self.reader, pid, file, f"{libc.start:x}",
                              *(word.decode() for word in addresses)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def _inside(path, root):
        if root != Path("/") and Path(path).is_relative_to(root):
            return "/" + str(Path(path).relative_to(root))
        return path

    def _follow(self, target, reader):
        head = []
        for line in reader.stdout:
            head.append(line.split())
            if head[-1][0] == "attached":
                break
        assert head and head[-1][0] == "attached", head
        assert head[-1][1] == head[-1][3], f"sites not attached: {head[-1]}"
        output, _ = target.communicate(b"go\n", timeout=120)
        assert target.returncode == 0
        text, _ = reader.communicate(timeout=60)
        assert reader.returncode == 0
        self._take_log(output)
        self._take_records(head + [line.split() for line in text.splitlines()])

    def _take_log(self, data):
        at = 0
        while at < len(data):
            tid, n = struct.unpack_from("<QQ", data, at)
            at += 16
            self.log[tid] = list(struct.iter_unpack("<QQQQQ", data[at:at + n * 40]))
            at += n * 40

    def _take_records(self, lines):
        for fields in lines:
            if fields[0] in ("alloc", "free", "realloc"):
                tid, flags, site, old, address, size = map(int, fields[1:])
                self.records.setdefault(tid, []).append(
                    (fields[0], old, address, size, flags, site))
            elif fields[0] == "site":
                self.sites.append(" ".join(fields[2:]))
            elif fields[0] == "lost":
                self.lost.append(fields[1:])
            elif fields[0] == "plan":
                self.unresolved = int(fields[3])


# --- comparing -----------------------------------------------------------------------------------

def expected_of(call, size, old, address, usable):
    """The records that a call may leave: a list of alternatives, each a list of records."""
    name = CALLS[call]
    given, moved = ("alloc", 0, address, usable), ("realloc", old, address, usable)
    if name == "free":
        return [[("free", old, 0, 0)] if old else []]
    if name not in ("realloc", "reallocarray"):
        return [[given] if address else []]
    if not old:
        return [[given], [moved]] if address else [[]]
    if address:  # where it moves, the library may call its own malloc
        return [[moved]] if address == old else [[given, moved], [moved]]
    return [[("free", old, 0, 0)]] if size == 0 else [[]]


class Comparison:
    """Walks a thread's log and its records side by side."""

    def __init__(self, run, tid):
        self.run, self.tid = run, tid
        self.log, self.records = run.log[tid], run.records.get(tid, [])
        self.known = {entry[3] for entry in self.log} | {entry[2] for entry in self.log} - {0}
        self.at, self.outside, self.unflagged = 0, [], set()
        # glibc 2.42 makes a thread's cache in its first free, and then jumps to free once more.
        self.freed, self.repeats = [], 0

    def matches(self, wanted):
        found = self.records[self.at:self.at + len(wanted)]
        return [record[:4] for record in found] == wanted

    def is_outside(self, record):
        """Not by the program: neither called from its text, nor a free of anything of its own."""
        kind, old, address, _, flags, _ = record
        if kind == "free" and self.freed == [old] and not self.repeats:
            self.repeats = 1
            return True
        if kind == "free":
            return old not in self.known or old in {other[2] for other in self.outside}
        return not flags & FROM_INTERPRETER and (not old or old not in self.known)

    def explain(self, number, entry):
        def show(record):
            kind, old, address, size, flags, site = record
            return f"{kind} {old:#x} -> {address:#x} size {size} flags {flags} @ " \
                   f"{self.run.sites[site]}"
        return "call %d of thread %d: %s(%d) of %#x gave %#x, usable %d; the records say: %s" % (
            number, self.tid, CALLS[entry[0]], *entry[1:],
            "; ".join(show(record) for record in self.records[self.at:self.at + 4]))

    def take(self, entry, wanted):
        name, inner = CALLS[entry[0]], len(wanted) > 1  # realloc's own call of malloc comes first
        for record in self.records[self.at + inner:self.at + len(wanted)]:
            if name in DIRECT and record[0] != "free" and not record[4] & FROM_INTERPRETER:
                self.unflagged.add((name, self.run.sites[record[5]]))
        if wanted and wanted[-1][0] == "free":
            self.freed.append(wanted[-1][1])
        self.at += len(wanted)

    def walk(self):
        for number, entry in enumerate(self.log):
            alternatives = expected_of(*entry)
            while True:
                wanted = next((one for one in alternatives if self.matches(one)), None)
                if wanted is not None:
                    break
                if self.at == len(self.records) or not self.is_outside(self.records[self.at]):
                    raise AssertionError(self.explain(number, entry))
                self.outside.append(self.records[self.at])
                self.at += 1
            self.take(entry, wanted)
        return self.records[self.at:]


def compare(run, threads):
    assert run.lost == [] and run.unresolved == 0
    assert len(run.log) == threads
    assert set(run.records) == set(run.log), "records of threads that are none of the program's"
    for tid in run.log:
        comparison = Comparison(run, tid)
        rest = comparison.walk()
        # A thread that ends gives back what its cache holds: chunks that were freed before.
        assert all(record[0] == "free" for record in rest), rest[:4]
        assert len(comparison.outside) <= OUTSIDE_MAX
        assert not comparison.unflagged, sorted(comparison.unflagged)
        if threads == 1:
            assert len(comparison.outside) <= 2 * comparison.repeats and rest == []


# --- tests ---------------------------------------------------------------------------------------

ROOTS = ("host", "debian-3.9", "debian-3.13", "debian-3.14", "debian-3.15")


def root_of(name):
    if name == "host":
        if platform.libc_ver()[0] != "glibc":
            pytest.skip("the C library at hand is not glibc")
        return Path("/")
    interpreter = support.interpreter(name)
    if not interpreter:
        pytest.skip(f"{name} is not at hand (make interpreters)")
    return interpreter.root


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("tunables", ["", NO_CACHE, BIG_CACHE],
                         ids=["cached", "uncached", "big-cache"])
def test_one_thread_sees_each_call_once(programs, name, tunables):
    compare(Run(programs, root_of(name), tunables=tunables), 1)


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("tunables", ["", NO_CACHE, BIG_CACHE],
                         ids=["cached", "uncached", "big-cache"])
def test_four_threads_that_pass_blocks_on_see_each_call_once(programs, name, tunables):
    compare(Run(programs, root_of(name), threads=4, seed=7, tunables=tunables), 4)


@pytest.mark.parametrize("name", ROOTS)
def test_a_child_gets_on_and_leaves_no_record(programs, name):
    compare(Run(programs, root_of(name), threads=2, operations=1500, seed=3, mode="fork"), 2)


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_last_ways_out_of_a_library_without_memory_are_seen(programs, name, threads):
    compare(Run(programs, root_of(name), threads=threads, operations=500, seed=5, mode="starve"),
            threads)


OLD_OBJECTS = """
import sys, time
OLD = [[n] for n in range(60)]
print("ready", flush=True)
sys.stdin.readline()
OLD.clear()  # to the free list of lists
KEPT = [[] for _ in range(60)]  # and from there
print(sum(sys.getsizeof(one) for one in KEPT), flush=True)
time.sleep(60)
"""


@pytest.mark.needs("root", "btf", "uprobe-multi", "stock-3.11")
@pytest.mark.parametrize("allocator", ["malloc", "malloc_debug"])
def test_objects_from_free_lists_of_before_have_their_chunks_size(stock, allocator):
    target = support.start([*stock.command, "-c", OLD_OBJECTS], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, text=True,
                           env=support.environment(PYTHONMALLOC=allocator))
    try:
        assert target.stdout.readline() == "ready\n"
        with support.session("--pid", target.pid, "--duration", "4s", *support.EXACT,
                             "--format", "json") as process:
            support.wait_attached(target.pid)
            target.stdin.write("go\n")
            target.stdin.flush()
            truth = int(target.stdout.readline())
            report = json.loads(process.communicate(timeout=60)[0])
    finally:
        support.stop(target)
    kept = [kind for site in report["sites"]
            if any(frame["line"] == 7 for frame in site["stack"][-1:])
            for kind in site["types"] if kind["name"] == "list"]
    assert sum(kind["objects"] for kind in kept) >= 60, kept
    assert sum(kind["bytes"] for kind in kept) >= truth, (kept, truth)


@pytest.mark.needs("root", "stock-3.11")
def test_without_probes_and_pools_nothing_is_claimed(stock):
    target = support.start([*stock.command, "-c", "print(1, flush=True)\ninput()"],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                           env=support.environment(PYTHONMALLOC="malloc"))
    try:
        target.stdout.readline()
        result = support.pyleakd("--pid", target.pid, "--duration", "0.5s", "--no-probes")
    finally:
        support.stop(target)
    assert result.returncode == 0, result.stderr
    assert "nothing can be told" in result.stdout
    assert "is left" not in result.stdout and "Python objects" not in result.stdout
