# SPDX-License-Identifier: MIT OR GPL-2.0
"""What is done, and not done, for the target's sake."""

import json
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest

import support
from cgroups import Cgroup
from support import EXACT, Program, TARGETS, pyleakd, report_of, session

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

in_each_mode = pytest.mark.parametrize("mode", ["exact", "sampled"])

KIB = 1024


# --- memory headroom ------------------------------------------------------------------------------

def idle_target(stock, cgroup):
    """A target in the cgroup that allocates nothing more: what it is charged stays as it is."""
    code = ("import sys, json; kept = [str(n) for n in range(50000)]; "
            "print(json.dumps({'ready': True}), flush=True); sys.stdin.read()")
    shell = f"echo $$ > {cgroup.path}/cgroup.procs; exec {stock.command[0]} -c \"$1\""
    process = support.start(["sh", "-c", shell, "sh", code], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    assert process.stdout.readline()
    return process


@pytest.mark.needs("cgroup-memory")
def test_a_target_just_below_its_memory_limit_is_refused_probes_and_lives(stock, cgroup):
    target = idle_target(stock, cgroup)
    try:
        cgroup.reclaim()
        cgroup.limit((cgroup.usage() + 200 * KIB) // 4096 * 4096)
        before = support.private_text_kb(target.pid)
        report = report_of(pyleakd("--pid", target.pid, "--duration", "3s", "--format", "json",
                                   *EXACT))
        assert target.poll() is None, "the target was killed"
        assert support.private_text_kb(target.pid) == before, "there was a breakpoint"
        assert report["refused"], report["session"]
        text = json.dumps(report["refused"]).lower()
        assert "memory" in text or "headroom" in text, text
        assert report["totals"]["python_live_blocks"] > 50000, "not even watched"
    finally:
        support.stop(target)


@pytest.mark.needs("cgroup-memory")
def test_a_target_with_room_below_its_limit_is_probed(stock, cgroup):
    """The counterpart: the refusal is the headroom's, not the cgroup's."""
    target = idle_target(stock, cgroup)
    try:
        cgroup.limit(cgroup.usage() + 64 * KIB * KIB)
        with session("--pid", target.pid, "--duration", "3s", "--format", "json",
                     *EXACT) as process:
            support.wait_attached(target.pid)
            stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 0, stderr
        assert not json.loads(stdout).get("refused")
        assert target.poll() is None
    finally:
        support.stop(target)


@pytest.mark.needs("cgroup-memory")
def test_a_limit_further_up_counts_too(stock, cgroup):
    child = Cgroup(f"{cgroup.path.name}/inner") if cgroup.v1 else None
    if child is None:
        (cgroup.path / "cgroup.subtree_control").write_text("+memory")
        child = Cgroup.__new__(Cgroup)
        child.v1, child.path = False, cgroup.path / "inner"
        child.path.mkdir()
    target = None
    try:
        target = idle_target(stock, child)
        cgroup.reclaim()
        cgroup.limit((cgroup.usage() + 200 * KIB) // 4096 * 4096)
        report = report_of(pyleakd("--pid", target.pid, "--duration", "2s", "--format", "json",
                                   *EXACT))
        assert target.poll() is None, "the target was killed"
        assert report["refused"], report["session"]
    finally:
        if target:
            support.stop(target)
        child.remove()


# --- swap -----------------------------------------------------------------------------------------

@pytest.fixture
def swap(tmp_path):
    """A swap file, where the machine lets us have one."""
    path = tmp_path / "swap"
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 256 << 20)
    path.chmod(0o600)
    subprocess.run(["/usr/sbin/mkswap", path], check=True, capture_output=True)
    result = subprocess.run(["/usr/sbin/swapon", path], capture_output=True, text=True)
    if result.returncode != 0:
        path.unlink()
        pytest.skip(f"swapon is not possible here: {result.stderr.strip()}")
    yield path
    subprocess.run(["/usr/sbin/swapoff", path], check=True)
    path.unlink()


def swapped_kb(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmSwap:"):
            return int(line.split()[1])
    return 0


SWAPPED = """
import ctypes, json, sys
kept = [str(n) * 3 for n in range(400000)]
libc = ctypes.CDLL(None)
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
for line in open("/proc/self/maps").read().splitlines():
    fields = line.split()
    start, end = (int(word, 16) for word in fields[0].split("-"))
    if len(fields) == 5 and fields[1].startswith("rw") and end - start >= 1 << 20:
        libc.madvise(start, end - start, 21)  # MADV_PAGEOUT
print(json.dumps({"ready": True}), flush=True)
sys.stdin.read()
"""


@pytest.mark.needs("swap")
@pytest.mark.parametrize("options", [EXACT, ["--mode", "sampled"], ["--no-probes"]],
                         ids=["exact", "sampled", "watch"])
def test_a_target_that_is_swapped_out_stays_swapped_out(stock, swap, options):
    target = support.start([*stock.command, "-c", SWAPPED], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE)
    try:
        assert target.stdout.readline()
        time.sleep(0.5)
        before = swapped_kb(target.pid)
        if before < 16 << 10:
            pytest.skip(f"only {before} KiB could be swapped out")
        report = report_of(pyleakd("--pid", target.pid, "--duration", "3s", "--interval", "1s",
                                   "--format", "json", *options))
        after = swapped_kb(target.pid)
        assert after >= 0.98 * before, (before, after)
        assert report["refused"] or report["session"]["coverage_ratio"] is None or \
            report["session"]["coverage_ratio"] <= 1
    finally:
        support.stop(target)


# --- fork -----------------------------------------------------------------------------------------

def children(target, count, timeout=60):
    """The medians over the next children: CPU seconds of their first part, and of later ones."""
    target.read(0)
    seen = len([line for line in target.lines if "child" in line])
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        new = [line for line in target.lines if "child" in line][seen:]
        if len(new) >= count:
            return [statistics.median(line[key] for line in new) for key in ("first", "cpu")]
        target.read(0.2)
    raise AssertionError("the target forks no more")


def test_children_forked_in_a_session_run_at_full_speed(stock):
    """They inherit the breakpoints: only until they are freed of them, at once."""
    with Program(stock, TARGETS, "forker.py") as target:
        target.expect("ready")
        first_alone, alone = children(target, 10)
        with session("--pid", target.pid, "--format", "json", *EXACT) as process:
            support.wait_attached(target.pid)
            first, later = children(target, 10)
            support.interrupt(process)
            stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 0, stderr
        # With its breakpoints it would run some twenty times slower.
        assert later < 4 * alone, (alone, later)
        # Trapped from end to end the first part would take a few tenths of a second.
        assert first < first_alone + 2, (first_alone, first)
        json.loads(stdout)


def test_with_subprocesses_the_children_are_followed(stock, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text("import json, os, sys, time\n"
                      "print(json.dumps({'ready': True}), flush=True)\n"
                      "sys.stdin.readline()\n"
                      "pid = os.fork()\n"
                      "kept = []\n"
                      "while True:\n"
                      "    kept.append({'pid': pid, 'row': [len(kept)]})  # LEAK\n"
                      "    time.sleep(0.005)\n")
    with Program(stock, tmp_path, "parent.py") as target:
        target.expect("ready")
        child = None
        try:
            with session("--pid", target.pid, "--subprocesses", "--duration", "12s",
                         "--interval", "1s", "--format", "json", *EXACT) as process:
                support.wait_attached(target.pid)
                target.say("fork")
                stdout, stderr = process.communicate(timeout=60)
                child = int(Path(f"/proc/{target.pid}/task/{target.pid}/children")
                            .read_text().split()[0])
            assert process.returncode == 0, stderr
            reports = {report["target"]["pid"]: report
                       for report in map(json.loads, stdout.splitlines())}
            assert set(reports) == {target.pid, child}
            for report in reports.values():
                top = report["sites"][0]
                assert top["verdict"] == "leak" and top["stack"][0]["line"] == 7, top
        finally:
            if child:
                os.kill(child, signal.SIGKILL)


# --- stop, exec -----------------------------------------------------------------------------------

@in_each_mode
def test_a_target_stopped_by_a_signal_can_be_attached_to_and_left(stock, mode):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        target.process.send_signal(signal.SIGSTOP)
        try:
            report_of(pyleakd("--pid", target.pid, "--duration", "2s", "--format", "json",
                              "--mode", mode))
            assert support.text_differences(target.pid) == []
        finally:
            target.process.send_signal(signal.SIGCONT)
        target.expect("work", after=len(target.lines))


@in_each_mode
def test_many_short_sessions_leave_the_target_whole(stock, mode):
    with Program(stock, TARGETS, "busy.py") as target:
        target.expect("work")
        for _ in range(8):
            report_of(pyleakd("--pid", target.pid, "--duration", "200ms", "--format", "json",
                              "--mode", mode))
            assert support.text_differences(target.pid) == []
        assert not support.has_uprobes_mapping(target.pid)
        target.expect("work", after=len(target.lines))
