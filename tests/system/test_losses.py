# SPDX-License-Identifier: MIT OR GPL-2.0
"""Records that are lost, because the ring is small or pyleakd can't run: counted, told, and never
made into a leak.
"""

import json
import signal
import subprocess
import time

import pytest

import support
from support import Program, TARGETS, pyleakd, report_of, session

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

SMALLEST = support.environment(PYLEAKD_RING_BYTES="65536")

# What grows is at one line; all else comes and goes, as fast as it can.
GROWING = """
import json, sys, time
kept = []
def churn():
    return json.dumps({'row': [str(n) for n in range(50)], 'more': {str(n): n for n in range(20)}})
def grow():
    kept.append(churn())  # LEAK
    kept.append([object() for _ in range(20)])  # LEAK
print(json.dumps({'ready': True}), flush=True)
while True:
    for _ in range(20):
        churn()
    grow()
"""


def growing_elsewhere(report, *marked):
    """Sites that are said to grow, and are not at the line that does."""
    return [site for site in report["sites"] if site["verdict"] in ("leak", "growing")
            and not any(frame["function"] in marked for frame in site["stack"])]


def starved(pid, *options):
    """What a session says whose ring is too small for the time in which it does not run."""
    with session("-mexact", "--pid", pid, "--duration", "10s", "--interval", "1s", *options,
                 env=SMALLEST) as process:
        support.wait_attached(pid)
        for _ in range(3):
            time.sleep(1)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1)
            process.send_signal(signal.SIGCONT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    return stdout


def check_losses_are_told(report):
    told = {loss["reason"]: loss["count"] for loss in report["losses"]}
    assert told.get("ring_full", 0) > 1000, report["losses"]
    assert report["session"]["events_lost"] >= told["ring_full"]


def test_a_ring_too_small_loses_records_and_the_report_says_so(stock, tmp_path):
    (tmp_path / "growing.py").write_text(GROWING)
    with Program(stock, tmp_path, "growing.py") as target:
        target.expect("ready")
        report = json.loads(starved(target.pid, "--format", "json"))
        check_losses_are_told(report)
        assert report["session"]["coverage_ratio"] < 0.95, report["session"]
        assert growing_elsewhere(report, "grow") == []
        text = starved(target.pid).splitlines()
        head = " ".join(text[:8])
        assert "LOST" in head and "UNSEEN" in head and "ring buffer" in head, text[:10]
        assert "none lost" not in "\n".join(text), text[-2:]
        assert support.text_differences(target.pid) == []


def test_a_ring_too_small_makes_no_leak_of_what_comes_and_goes(stock):
    """Frees are lost too, and the pools tell what has died."""
    with Program(stock, TARGETS, "busy.py") as target:
        target.expect("work")
        report = json.loads(starved(target.pid, "--format", "json"))
        check_losses_are_told(report)
        assert growing_elsewhere(report) == []
        outstanding = sum(site["outstanding_bytes"] for site in report["sites"])
        assert outstanding < 1 << 20, report["sites"][:3]


@pytest.mark.parametrize("size", ["1048576", None], ids=["ring of 1 MiB", "ring as it is"])
def test_pyleakd_stopped_for_a_while_goes_on_with_what_it_lost_told(stock, size):
    environment = support.environment(**({"PYLEAKD_RING_BYTES": size} if size else {}))
    with Program(stock, TARGETS, "busy.py") as target:
        target.expect("work")
        with session("-mexact", "--pid", target.pid, "--interval", "1s", "--duration", "14s",
                     "--format", "json", env=environment) as process:
            support.wait_attached(target.pid)
            time.sleep(2)
            process.send_signal(signal.SIGSTOP)
            time.sleep(5)
            process.send_signal(signal.SIGCONT)
            stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        report = json.loads(stdout)
        if size:
            check_losses_are_told(report)
        lost = sum(loss["count"] for loss in report["losses"] if loss["reason"] == "ring_full")
        assert report["session"]["events_lost"] >= lost
        assert growing_elsewhere(report) == []
        assert sum(site["outstanding_bytes"] for site in report["sites"]) < 1 << 20
        assert support.text_differences(target.pid) == []


@pytest.mark.parametrize("value", ["banana", "0", "99999999999999999999", "-1"])
def test_a_ring_size_that_is_none_is_refused_in_one_line(value):
    result = pyleakd("--pid", 1, "--duration", "1s",
                     env=support.environment(PYLEAKD_RING_BYTES=value))
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert "PYLEAKD_RING_BYTES" in result.stderr


def test_a_ring_size_that_the_kernel_does_not_take_is_told(stock):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        report = report_of(pyleakd("-mexact", "--pid", target.pid, "--duration", "1s", "--format",
                                   "json",
                                   env=support.environment(PYLEAKD_RING_BYTES="65537")))
        assert any("ring_bytes" in refused["why"] for refused in report["refused"])
