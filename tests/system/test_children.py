# SPDX-License-Identifier: MIT OR GPL-2.0
"""Children that a session can't look after: each is in the report, by how many there were."""

import json
import resource
import signal
import time

import pytest

import support
from support import Program, pyleakd, session

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

KEPT_MAX = 256  # SESSION_CHILDREN_MAX
FORKS = "freeing a forked child of breakpoints"

# Forks as many children at once as it is told to, which do nothing.
FORKER = """
import json, os, sys
print(json.dumps({'ready': True}), flush=True)
for number, line in enumerate(sys.stdin):
    for pid in [os.fork() or os._exit(0) for _ in range(int(line))]:
        os.waitpid(pid, 0)
    print(json.dumps({f'forked {number}': int(line)}), flush=True)
"""


@pytest.fixture
def forker(stock, tmp_path):
    (tmp_path / "forker.py").write_text(FORKER)
    with Program(stock, tmp_path, "forker.py") as target:
        target.expect("ready")
        yield target


def end(process, recording, path):
    """The report, which a replay of the recording repeats, and its text."""
    support.interrupt(process)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    result = pyleakd("replay", recording, "--format", "json")
    assert result.stdout == path.read_text(), result.stderr
    return json.loads(result.stdout), pyleakd("replay", recording).stdout


def test_children_that_come_faster_than_they_are_taken_are_counted(forker, tmp_path):
    """All of them while pyleakd stands still: then it finds them at once."""
    recording, report = tmp_path / "session.rec", tmp_path / "report"
    with session("-mexact", "--pid", forker.pid, "--format", "json", "--output", report,
                 "--record", recording) as process:
        support.wait_attached(forker.pid)
        process.send_signal(signal.SIGSTOP)
        forker.say(str(KEPT_MAX + 44))
        forker.expect("forked 0", timeout=60)
        process.send_signal(signal.SIGCONT)
        time.sleep(1)
        told, text = end(process, recording, report)
    assert {loss["reason"]: loss["count"] for loss in told["losses"]}["child_missed"] == 44
    assert told["session"]["events_lost"] == 0, "they are none of its allocations"
    assert "44 times: a forked child" in text, text


def test_children_that_are_taken_in_time_are_no_loss(forker, tmp_path):
    recording, report = tmp_path / "session.rec", tmp_path / "report"
    with session("-mexact", "--pid", forker.pid, "--format", "json", "--output", report,
                 "--record", recording) as process:
        support.wait_attached(forker.pid)
        for number in range(6):
            forker.say("50")
            forker.expect(f"forked {number}", timeout=60)
            time.sleep(0.3)
        told, _ = end(process, recording, report)
    assert not [loss for loss in told["losses"] if loss["reason"] == "child_missed"], told


def test_one_reason_for_many_children_is_one_row_with_a_count(forker, tmp_path):
    """No descriptor is left for the link that frees them: the kernel says so each time."""
    recording, report = tmp_path / "session.rec", tmp_path / "report"
    with session("-mexact", "--pid", forker.pid, "--format", "json", "--output", report,
                 "--record", recording) as process:
        support.wait_attached(forker.pid)
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        for number in range(5):
            forker.say("1")
            forker.expect(f"forked {number}", timeout=60)
            time.sleep(0.5)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        told, text = end(process, recording, report)
    rows = [row for row in told["refused"] if row["what"] == FORKS]
    assert len(rows) == 1 and 2 <= rows[0]["count"] <= 5, told["refused"]
    assert "Too many open files" in rows[0]["why"], rows
    assert f"({rows[0]['count']} times)" in text, text
