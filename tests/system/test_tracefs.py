# SPDX-License-Identifier: MIT OR GPL-2.0
"""Uprobe events of tracefs in place of links to many uprobes: what older kernels get, chosen here
by PYLEAKD_ATTACH.
"""

import signal
import subprocess
import time
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

TRACEFS = Path("/sys/kernel/tracing")


@pytest.fixture
def tracefs(monkeypatch):
    """The method, and the lines of uprobe_events; tracefs is mounted for the test if need be."""
    monkeypatch.setenv("PYLEAKD_ATTACH", "tracefs")
    mounted = not (TRACEFS / "uprobe_events").exists()
    if mounted and subprocess.run(["mount", "-t", "tracefs", "none", TRACEFS]).returncode:
        pytest.skip("tracefs can't be mounted")
    try:
        yield lambda: (TRACEFS / "uprobe_events").read_text().splitlines()
    finally:
        if mounted:
            # Sessions of other tests may have files of it open: it goes with the last of them.
            subprocess.run(["umount", "--lazy", TRACEFS], check=True)


def ours(lines, pid):
    return [line for line in lines if f":pyleakd_{pid}_" in line]


def check_output():
    return subprocess.run([support.PYLEAKD, "check"], capture_output=True, text=True).stdout


def is_whole(pid):
    """No breakpoint is left in it; the kernel takes some moments to let go of the killed."""
    end = time.monotonic() + 10
    while support.text_differences(pid) and time.monotonic() < end:
        time.sleep(0.1)
    return not support.text_differences(pid)


@pytest.mark.parametrize("value, expected", [
    ("multi", "links to many uprobes (uprobe_multi): PYLEAKD_ATTACH says so"),
    ("tracefs", "uprobe events of tracefs: PYLEAKD_ATTACH says so"),
    ("ftrace", "links to many uprobes (uprobe_multi): PYLEAKD_ATTACH is neither multi nor tracefs"),
])
def test_check_says_which_method_is_used_and_why(monkeypatch, value, expected):
    monkeypatch.setenv("PYLEAKD_ATTACH", value)
    assert expected in check_output()


def test_tracefs_need_not_be_mounted(monkeypatch):
    monkeypatch.setenv("PYLEAKD_ATTACH", "tracefs")
    before = Path("/proc/self/mountinfo").read_text()
    assert "uprobe events of tracefs" in check_output()
    assert Path("/proc/self/mountinfo").read_text() == before


def test_killed_in_the_middle_its_events_go_with_the_next_start(tracefs, stock):
    with support.Program(stock, support.ZOO, "global_dict.py", "--seconds", "60") as program:
        with support.session("--pid", program.pid, "--mode", "exact",
                             stdout=subprocess.DEVNULL) as dead:
            support.wait_attached(program.pid)
            assert len(ours(tracefs(), dead.pid)) > 100
            dead.send_signal(signal.SIGKILL)
            dead.wait()
        left = ours(tracefs(), dead.pid)
        assert left, "definitions outlive a process"
        assert is_whole(program.pid)
        with support.session("--pid", program.pid, "--mode", "exact",
                             stdout=subprocess.DEVNULL) as alive:
            support.wait_attached(program.pid)
            assert not ours(tracefs(), dead.pid)
            check_output()  # another pyleakd, which must leave them alone
            assert len(ours(tracefs(), alive.pid)) > 100
            support.interrupt(alive)
            assert alive.wait(timeout=60) == 0
        assert not ours(tracefs(), alive.pid)
