# SPDX-License-Identifier: MIT OR GPL-2.0
"""Groups of sites that go in and out: counts, limits, and what is left in the target.

capture_windows.c on a child whose instructions are known, windows_python.c on interpreters.
"""

import json
import os
import select
import subprocess
import time
from pathlib import Path

import pytest

import support
import test_capture
from support import TARGETS, Program

BUILD = support.ROOT / os.environ.get("BUILD", "build")
SYSTEM = Path(__file__).resolve().parent
ROOMS = ("service", "report", "judge", "ledger", "capture", "probes", "cpython", "target", "base")
LIBRARIES = "-lbpf -lelf -ldw -lz -lZydis -lZycore -lsystemd -ljansson -lcap -lm"
CYCLES = 200
GROWTH_KIB_MAX = 2048

pytestmark = pytest.mark.needs("root", "btf", "uprobe-multi", "gcc", "pyleakd")


@pytest.mark.parametrize("method", ["multi", "tracefs"])
def test_groups_go_in_and_out(method, tmp_path, monkeypatch):
    monkeypatch.setenv("PYLEAKD_ATTACH", method)
    test_capture.run("capture_windows", tmp_path)


# --- interpreters ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    program = tmp_path_factory.mktemp("windows") / "windows_python"
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Werror", "-g",
                    "-Wno-unused-function", f"-I{support.ROOT}/include", f"-I{support.ROOT}/src",
                    "-o", program, SYSTEM / "windows_python.c",
                    *(BUILD / "lib" / f"{room}.a" for room in ROOMS), *LIBRARIES.split()],
                   check=True)
    return program


class Windows:
    """windows_python on a process: a line to it, a line from it."""

    def __init__(self, driver, pid):
        self.process = support.start([driver, str(pid)], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE)

    def __enter__(self):
        self.answer()
        return self

    def __exit__(self, *_):
        support.stop(self.process)

    def answer(self, timeout=120):
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline() if ready else b""
        assert line, "windows_python said nothing"
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.answer()

    def finish(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0


def tell(program, line):
    """A line to the target, whose answer is waited for."""
    n = len(program.lines)
    program.say(line)
    return program.expect("did", timeout=60, after=n)


def resident_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


def assert_untouched(pid):
    assert not support.text_differences(pid)
    assert not support.has_uprobes_mapping(pid)


def assert_never_wrong(program):
    program.finish()
    last = program.lines[-1]
    assert last["rounds"] > 0 and last["wrong"] == 0, last


@pytest.mark.needs("stock-3.11")
@pytest.mark.parametrize("options", [(), ("--threads",)], ids=["one-thread", "two-threads"])
def test_many_windows_leave_a_busy_target_as_it_was(driver, stock, options):
    with Program(stock, TARGETS, "checking.py", *options) as program:
        program.expect("ready")
        with Windows(driver, program.pid) as windows:
            windows.ask("cycles 6")
            before = resident_kib(program.pid)
            said = windows.ask(f"cycles {CYCLES}")
            grown = resident_kib(program.pid) - before
            windows.finish()
        assert_untouched(program.pid)
        assert grown <= GROWTH_KIB_MAX, grown
        assert said["native"] > 0 and said["limited"] > 0 and said["untaken"] > 0, said
        # Every hit counted once at its site and once for its group; a record each, but silent ones
        # and those at which a site's condition did not hold: they cost a trap all the same.
        assert said["of_sites"] == said["hits"], said
        assert said["records"] + said["lost"] == (
            said["hits"] - said["silent"] - said["untaken"]), said
        assert said["lost"] == 0 and said["unexpected"] == 0, said
        assert said["limits"] == said["limited"], said
        assert_never_wrong(program)


@pytest.mark.needs("stock-3.11")
def test_a_holder_that_is_killed_in_a_window_leaves_the_target_whole(driver, stock):
    with Program(stock, TARGETS, "checking.py") as program:
        program.expect("ready")
        for _ in range(3):
            with Windows(driver, program.pid) as windows:
                assert windows.ask("hold")["sites"] > 0
                assert support.text_differences(program.pid)
                windows.process.kill()
                windows.process.wait()
            end = time.monotonic() + 20
            while support.text_differences(program.pid, private_only=True):
                assert time.monotonic() < end, "breakpoints stayed"
                time.sleep(0.05)
            assert_untouched(program.pid)
        assert_never_wrong(program)


@pytest.mark.parametrize("python", support.interpreters(), ids=repr)
def test_new_pools_are_those_that_a_census_finds_new(driver, python):
    with Program(python, TARGETS, "checking.py") as program:
        program.expect("ready")
        tell(program, "grow 2")
        with Windows(driver, program.pid) as windows:
            assert windows.ask("probe")["known"] > 100
            tell(program, "grow 12")
            said = windows.ask("compare")
            windows.finish()
        assert said["new"] > 300, said
        assert said["told"] == said["new"], said
        assert said["untold"] == said["not_new"] == said["repeated"] == 0, said
        # Pools that are used again are fresh, too, and nothing new.
        assert said["hits"] >= said["told"], said
        tell(program, "work")
        assert_never_wrong(program)
