# SPDX-License-Identifier: MIT OR GPL-2.0
"""On every interpreter at hand, the mixed workload against the interpreter's own books."""

import json
import os
import subprocess

import pytest

import support
from support import Program, TARGETS, session

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi")

ROUNDS = 400


class Run:
    def __init__(self, python):
        with Program(python, TARGETS, "mixed.py") as target:
            target.expect("ready", 60)
            # What a first round imports, caches and interns is not the session's.
            before = self.work(target, 50)
            with session("--pid", target.pid, "--mode", "exact", "--interval", "1s",
                         "--format", "json") as process:
                support.wait_attached(target.pid)
                after = self.work(target, ROUNDS)
                support.interrupt(process)
                stdout, stderr = process.communicate(timeout=60)
            assert process.returncode == 0, stderr
            assert support.text_differences(target.pid) == []
            assert not support.has_uprobes_mapping(target.pid)
        self.report = json.loads(stdout)
        self.gained_blocks = after["blocks"] - before["blocks"]
        self.pool_blocks = sum(after["classes"].values()) - sum(before["classes"].values())

    @staticmethod
    def work(target, rounds):
        after = len(target.lines)
        target.say(f"work {rounds}")
        return target.expect("done", 240, after)


def some_interpreters():
    """Those that differ by layout and build; ZOO_ALL=1 and bench/completeness.py take all."""
    some = ["stock-3.11", "debian-3.9", "debian-3.13", "debian-3.14", "debian-3.15", "pyenv-3.8",
            "pyenv-3.12"]
    return [python for python in support.interpreters()
            if python.name in some or os.environ.get("ZOO_ALL")]


@pytest.fixture(scope="module", params=some_interpreters(), ids=repr)
def run(request):
    return Run(request.param)


def test_of_what_was_born_the_ledger_holds_nearly_all(run):
    session = run.report["session"]
    assert session["events_lost"] == 0, run.report.get("losses")
    assert session["coverage_ratio"] >= 0.999, session


def test_what_the_ledger_holds_is_alive(run):
    books = run.report["books"]
    assert books["held_checked_blocks"] > 20000
    assert books["held_live_blocks"] >= 0.999 * books["held_checked_blocks"], books


def test_what_was_seen_adds_up_to_what_the_pools_gained(run):
    """Allocations less frees against the pools' counters; and both against the target's own."""
    books = run.report["books"]
    assert abs(books["seen_net_blocks"] - books["pools_net_blocks"]) <= \
        0.001 * books["pools_net_blocks"], books
    # The target's own count begins and ends a moment within the session.
    assert abs(books["pools_net_blocks"] - run.pool_blocks) <= 0.01 * run.pool_blocks, books


def test_what_is_outstanding_is_what_the_interpreter_gained(run):
    """Blocks from before the session that died in it are the difference, and they are few."""
    assert run.pool_blocks > 20000, "the workload kept too little"
    outstanding = sum(site["outstanding_objects"] for site in run.report["sites"]
                      if site["domain"] in ("object", "mem"))
    assert 0.995 * run.gained_blocks <= outstanding <= 1.005 * run.gained_blocks, \
        (outstanding, run.gained_blocks)


def test_the_stacks_lead_into_the_workload(run):
    """Of the bytes kept, nearly all have a line of the workload in their stack."""
    sites = run.report["sites"]
    total = sum(site["outstanding_bytes"] for site in sites if site["domain"] != "native")
    ours = sum(site["outstanding_bytes"] for site in sites if site["domain"] != "native" and
               any(frame["file"].endswith("mixed.py") for frame in site["stack"]))
    assert ours >= 0.95 * total, (ours, total)


@pytest.mark.needs("uwsgi")
def test_python_inside_uwsgi_is_covered(tmp_path):
    app = tmp_path / "app.py"
    app.write_text("KEPT = []\n"
                   "def application(environ, start_response):\n"
                   "    KEPT.append([{'n': n} for n in range(50)])  # LEAK\n"
                   "    start_response('200 OK', [])\n"
                   "    return [b'kept']\n")
    socket_path = tmp_path / "http.sock"
    process = support.start(["uwsgi", "--plugin", "python3", "--http-socket", socket_path,
                             "--wsgi-file", app, "--processes", "1", "--die-on-term",
                             "--disable-logging"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        report = _uwsgi_session(process, socket_path)
    finally:
        support.stop(process)
    assert report["target"]["python"].startswith("3.11")
    assert report["session"]["events_lost"] == 0
    assert report["session"]["coverage_ratio"] >= 0.999
    top = report["sites"][0]
    assert any(frame["file"].endswith("app.py") and frame["line"] == 3 for frame in top["stack"])
    assert top["verdict"] in ("leak", "growing")  # requests come as unevenly as the host runs


def _uwsgi_session(process, socket_path):
    import socket
    import time

    def request():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_path))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while client.recv(4096):
                pass

    end = time.monotonic() + 15
    while not socket_path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    for _ in range(20):
        request()
    with session("--pid", process.pid, "--mode", "exact", "--duration", "10s", "--interval", "1s",
                 "--format", "json") as pyleakd:
        support.wait_attached(process.pid)
        while pyleakd.poll() is None:
            request()
            time.sleep(0.02)
        stdout, stderr = pyleakd.communicate(timeout=20)
    assert pyleakd.returncode == 0, stderr
    return json.loads(stdout)
