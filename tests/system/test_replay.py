# SPDX-License-Identifier: MIT OR GPL-2.0
"""A session's recording says what the session said, to anybody, and so does half of it."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from support import PYLEAKD, interpreter, pyleakd, report_of, session, start, stop, wait_attached

pytestmark = pytest.mark.needs("root", "btf")

LEAKING = """
import threading, time
kept = {}
class Entry:
    def __init__(self, number):
        self.text = "entry %d" % number
        self.items = [number] * 4
def handle(name):
    number = 0
    while True:
        for _ in range(20):
            number += 1
            kept[name, number] = Entry(number)
            sorted(str(i) for i in range(30))
        time.sleep(0.01)
for name in ("a", "b"):
    threading.Thread(target=handle, args=(name,), daemon=True).start()
time.sleep(600)
"""


@pytest.fixture
def target():
    python = interpreter("stock-3.11")
    process = start([*(python.command if python else [sys.executable]), "-c", LEAKING])
    time.sleep(0.5)
    yield process
    stop(process)


def record(target, directory, *arguments):
    """A session of a few seconds: the recording's path, and the report as it was written."""
    recording, report = directory / "session.rec", directory / "report"
    result = pyleakd("--pid", target.pid, "--duration", "4s", "--interval", "500ms",
                     "--record", recording, "--output", report, *arguments)
    assert result.returncode == 0, result.stderr
    return recording, report.read_bytes()


def replay(recording, *arguments):
    result = subprocess.run([PYLEAKD, "replay", recording, *arguments], capture_output=True,
                            timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("form", ["json", "text", "folded"])
def test_a_replay_says_byte_for_byte_what_the_session_said(target, tmp_path, form):
    recording, report = record(target, tmp_path, "--format", form)
    assert b"handle" in report
    assert replay(recording, "--format", form) == report


def test_a_watched_session_replays_its_types(target, tmp_path):
    recording, report = record(target, tmp_path, "--no-probes", "--format", "json")
    assert b'"Entry"' in report
    assert replay(recording, "--format", "json") == report


def test_the_target_may_be_gone_and_no_rights_are_needed(target, tmp_path):
    recording, report = record(target, tmp_path, "--format", "json")
    assert stat.S_IMODE(os.stat(recording).st_mode) == 0o600
    target.kill()
    target.wait()
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        program, copy = Path(directory) / "pyleakd", Path(directory) / "session.rec"
        shutil.copy(PYLEAKD, program)
        shutil.copyfile(recording, copy)
        result = subprocess.run([program, "replay", copy, "--format", "json"], timeout=60,
                                capture_output=True, user=65534, group=65534, extra_groups=[])
    assert result.returncode == 0, result.stderr
    assert result.stdout == report


def test_a_target_that_ends_in_the_session_replays_too(target, tmp_path):
    recording, report = tmp_path / "session.rec", tmp_path / "report"
    with session("--pid", target.pid, "--interval", "500ms", "--record", recording,
                 "--format", "json", "--output", report) as process:
        wait_attached(target.pid)
        time.sleep(1.5)
        target.kill()
        target.wait()
        assert process.wait(timeout=20) == 0, process.stderr.read()
    assert replay(recording, "--format", "json") == report.read_bytes()


def test_a_session_that_was_killed_is_replayed_as_far_as_it_came(target, tmp_path):
    recording = tmp_path / "session.rec"
    with session("--pid", target.pid, "--interval", "500ms", "--record", recording) as process:
        wait_attached(target.pid)
        time.sleep(3)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    report = report_of(pyleakd("replay", recording, "--format", "json"))
    assert report["session"]["events"] > 0
    assert any("cut off" in row["why"] for row in report["refused"]), report["refused"]
    functions = {frame["function"] for site in report["sites"] for frame in site["stack"]}
    assert "handle" in functions


def test_the_recording_of_a_command_is_whole_from_its_start_to_its_end(tmp_path):
    """The attempts that came too early, while it was being loaded, are not in it."""
    recording, report = tmp_path / "session.rec", tmp_path / "report"
    result = pyleakd("run", "-mexact", "--interval", "500ms", "--record", recording, "--format",
                     "json", "--output", report, "--", "/usr/bin/python3.11", "-c",
                     "import time; x = [str(n) for n in range(5000)]; time.sleep(1)")
    assert result.returncode == 0 and "incomplete" not in result.stderr, result.stderr
    original = json.loads(report.read_text())
    replayed = report_of(pyleakd("replay", recording, "--format", "json"))
    assert replayed["refused"] == original["refused"]
    assert replayed["target"] == original["target"]
    assert replayed["session"] == original["session"]
    assert replayed["totals"] == original["totals"]
