# SPDX-License-Identifier: MIT OR GPL-2.0
"""Targets that change under a session: their pid gets to another process, they execute another
program, their first thread ends, somebody else probes them too.
"""

import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import support
from support import Program, TARGETS, pyleakd, report_of, session

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")

# Speaks a line a tick; keeps what leak() makes.
LEAKS = """
import json, sys, time
kept = []
def leak():
    kept.append({'row': [len(kept)]})  # LEAK
def report(**what):
    print(json.dumps(what), flush=True)
"""


GOES_ON = """
report(ready=True)
while True:
    leak()
    time.sleep(0.001)
"""


def program(directory, name, text):
    (directory / name).write_text(LEAKS + text)
    return name


def is_whole(pid):
    """Nothing of a session is left in this process."""
    end = time.monotonic() + 5
    while support.text_differences(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return support.text_differences(pid) == [] and not support.has_uprobes_mapping(pid)


def leaked(report, name):
    """Objects of the report that are of the marked line of such a program."""
    return sum(site["outstanding_objects"] for site in report["sites"]
               if site["stack"] and site["stack"][0]["file"].endswith(name)
               and site["stack"][0]["function"] == "leak")


# --- two sessions on one target -------------------------------------------------------------------

def test_two_sessions_on_one_target_are_both_right(stock, tmp_path):
    """One ends while the other goes on, which goes on being right; then the target is whole."""
    name = program(tmp_path, "both.py", """
report(ready=True)
for line in sys.stdin:
    for _ in range(1000):
        leak()
    report(done=line.strip())
""")
    with Program(stock, tmp_path, name) as target:
        target.expect("ready")
        reports = []
        with session("-mexact", "--pid", target.pid, "--format", "json") as first:
            breakpoints = support.wait_attached(target.pid)
            links = links_of(target.pid)
            assert links > 0
            target.say("one")
            target.expect("done")
            with session("-mexact", "--pid", target.pid, "--format", "json") as second:
                wait_links(target.pid, links)
                time.sleep(0.5)  # the books' beginning comes behind the links
                target.say("both")
                target.expect("done", after=2)
                reports.append(end(first))
                assert len(support.text_differences(target.pid)) == breakpoints
                target.say("other")
                target.expect("done", after=3)
                reports.append(end(second))
        for report in reports:
            session_of = report["session"]
            assert not report["refused"] and session_of["events_lost"] == 0
            assert session_of["coverage_ratio"] == 1, report["books"]
            # 2,000 calls: a dict, its keys, a list, its items, and a number (up to 256 there are)
            assert 9700 <= leaked(report, name) <= 10010, report["sites"][:2]
        assert is_whole(target.pid)


def links_of(pid):
    return sum(link.get("pid") == pid for link in support.bpf_links().values())


def wait_links(pid, more_than, timeout=30):
    """Until another session's links are there, as many as the first one's."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if links_of(pid) >= 2 * more_than:
            return
        time.sleep(0.1)
    raise AssertionError("the session did not attach")


def end(process):
    support.interrupt(process)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    return json.loads(stdout)


# --- the pid is used again ------------------------------------------------------------------------

def take_over(pid, command, **options):
    """A process that gets this pid, or None: others start processes too."""
    for _ in range(50):
        LAST_PID.write_text(str(pid - 1))
        successor = support.start(command, **options)
        if successor.pid == pid:
            return successor
        support.stop(successor)
    return None


@contextlib.contextmanager
def predecessor_and_successor(stock, tmp_path, when):
    """A session that sleeps from when() on, while its target's pid comes to mean another Python."""
    first = program(tmp_path, "first.py", GOES_ON)
    second = program(tmp_path, "second.py", GOES_ON)
    with Program(stock, tmp_path, first) as target:
        target.expect("ready")
        with session("-mexact", "--pid", target.pid, "--interval", "500ms", "--duration", "10s",
                     "--format", "json") as process:
            when(target)
            process.send_signal(signal.SIGSTOP)
            support.stop(target.process)
            successor = take_over(target.pid, [*stock.command, tmp_path / second],
                                  stdout=subprocess.PIPE)
            if successor is None:
                process.kill()
                pytest.skip("the pid could not be had again")
            try:
                assert successor.stdout.readline()
                process.send_signal(signal.SIGCONT)
                yield process, successor
            finally:
                support.stop(successor)


def test_a_pid_that_is_used_again_in_a_session_ends_it(stock, tmp_path):
    def when(target):
        support.wait_attached(target.pid)
        time.sleep(1)
    with predecessor_and_successor(stock, tmp_path, when) as (process, successor):
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 0, stderr
        report = json.loads(stdout)
        assert report["target"]["command"] == "first.py"
        assert leaked(report, "first.py") > 100
        assert leaked(report, "second.py") == 0
        assert report["session"]["duration_seconds"] < 9
        assert is_whole(successor.pid) and successor.poll() is None


@pytest.mark.parametrize("delay", [0.005, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4])
def test_a_pid_that_is_used_again_while_we_attach_is_told_apart(stock, tmp_path, delay):
    with predecessor_and_successor(stock, tmp_path, lambda _: time.sleep(delay)) as (process,
                                                                                     successor):
        try:
            stdout, stderr = process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            support.interrupt(process)
            stdout, stderr = process.communicate(timeout=30)
        assert successor.poll() is None
        assert process.returncode in (0, 1), stderr
        if stdout:
            report = json.loads(stdout)
            name = report["target"]["command"]
            assert leaked(report, "first.py" if name == "second.py" else "second.py") == 0
        else:
            assert len(stderr.splitlines()) == 1, stderr
        assert is_whole(successor.pid)


# --- another program in the process ---------------------------------------------------------------

@pytest.mark.parametrize("command", [["/usr/bin/python3.11", "next.py"], ["/bin/sleep", "30"]],
                         ids=["python", "no python"])
def test_an_exec_ends_the_session_and_is_told(stock, tmp_path, command):
    program(tmp_path, "next.py", GOES_ON)
    name = program(tmp_path, "before.py", f"""
import os
os.chdir({str(tmp_path)!r})
report(ready=True)
for line in sys.stdin:
    for _ in range(1000):
        leak()
    time.sleep(1)
    os.execv({command[0]!r}, {command!r})
""")
    with Program(stock, tmp_path, name) as target:
        target.expect("ready")
        with session("-mexact", "--pid", target.pid, "--duration", "30s", "--interval", "1s",
                     "--format", "json") as process:
            support.wait_attached(target.pid)
            target.say("go")
            stdout, stderr = process.communicate(timeout=25)
        assert process.returncode == 0, stderr
        report = json.loads(stdout)
        assert any("exec" in refused["why"] for refused in report["refused"]), report["refused"]
        assert leaked(report, "before.py") >= 2000
        assert leaked(report, "next.py") == 0
        assert not any(loss["reason"] == "thread_state_unreadable" for loss in report["losses"])
        assert Path(f"/proc/{target.pid}/cmdline").read_bytes().split(b"\0")[0] == \
            command[0].encode()
        assert is_whole(target.pid)


def test_an_exec_ends_a_session_without_probes_too(stock, tmp_path):
    name = program(tmp_path, "before.py", """
import os
report(ready=True)
sys.stdin.readline()
os.execv("/bin/sleep", ["sleep", "60"])
""")
    with Program(stock, tmp_path, name) as target:
        target.expect("ready")
        with session("-mexact", "--pid", target.pid, "--no-probes", "--interval", "300ms",
                     "--duration", "30s",
                     "--format", "json") as process:
            time.sleep(2)
            target.say("go")
            stdout, stderr = process.communicate(timeout=25)
        assert process.returncode == 0, stderr
        report = json.loads(stdout)
        assert any("exec" in refused["why"] for refused in report["refused"]), report["refused"]
        assert report["session"]["duration_seconds"] < 25
        assert report["totals"]["python_live_blocks"] > 10000
        assert report["totals"]["resident_bytes"] > 5 << 20, "sleep's, not Python's"


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.08, 0.12, 0.2, 0.3])
def test_an_exec_while_we_attach_leaves_the_new_program_whole(stock, tmp_path, delay):
    program(tmp_path, "next.py", GOES_ON)
    name = program(tmp_path, "before.py", f"""
import os
report(ready=True)
sys.stdin.readline()
os.execv({stock.command[0]!r}, [{stock.command[0]!r}, {str(tmp_path / "next.py")!r}])
""")
    with Program(stock, tmp_path, name) as target:
        target.expect("ready")
        with session("-mexact", "--pid", target.pid, "--duration", "2s", "--format",
                     "json") as process:
            time.sleep(delay)
            target.say("go")
            stdout, stderr = process.communicate(timeout=30)
        target.expect("ready", after=1)
        assert process.returncode in (0, 1), stderr
        if process.returncode == 1:
            assert len(stderr.splitlines()) == 1, stderr
        else:
            report = json.loads(stdout)
            assert report["refused"] or report["session"]["coverage_ratio"] > 0.99
        assert is_whole(target.pid)


# --- the first thread ends ------------------------------------------------------------------------

LEADERLESS = """
import ctypes, threading
def work():
    report(ready=True)
    while True:
        leak(); time.sleep(.001)
threading.Thread(target=work).start()
sys.stdin.readline()
report(gone=True)
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of this thread alone
"""


def wait_for_zombie(pid):
    for _ in range(200):
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the first thread did not end")


def test_without_its_first_thread_a_target_is_watched_and_that_is_told(stock, tmp_path):
    name = program(tmp_path, "leaderless.py", LEADERLESS)
    with Program(stock, tmp_path, name) as target:
        target.expect("ready")
        target.say("go")
        wait_for_zombie(target.pid)
        for options in ([], ["--no-probes"]):
            report = report_of(pyleakd("-mexact", "--pid", target.pid, "--duration", "3s",
                                       "--interval",
                                       "500ms", "--format", "json", *options))
            assert report["session"]["events"] == 0
            assert report["totals"]["python_live_blocks"] > 10000
            assert report["totals"]["python_growth_bytes_per_second"] > 1000
            assert report["totals"]["resident_bytes"] > 1 << 20
            told = [refused["why"] for refused in report["refused"]]
            assert options or any("first thread" in why for why in told), told


def test_a_first_thread_that_ends_in_a_session_takes_nothing_along(stock, tmp_path):
    """What is known of the program is read as before, and the breakpoints are taken out again.

    The interpreter is a file of its own: whoever else probes the same would take them out too.
    """
    name = program(tmp_path, "leaderless.py", LEADERLESS)
    shutil.copy(stock.elf, tmp_path / "python3.11")
    own = copy.copy(stock)
    own.command = [str(tmp_path / "python3.11"), *stock.command[1:]]
    with Program(own, tmp_path, name) as target:
        target.expect("ready")
        with session("-mexact", "--pid", target.pid, "--interval", "500ms", "--format",
                     "json") as process:
            support.wait_attached(target.pid)
            target.say("go")
            wait_for_zombie(target.pid)
            time.sleep(3)
            report = end(process)
        assert report["session"]["coverage_ratio"] > 0.99, report["session"]
        told = [refused["why"] for refused in report["refused"]]
        assert any("first thread" in why for why in told), told
        assert leaked(report, name) > 1000
        top = report["sites"][0]
        assert {kind["name"] for kind in top["types"]} >= {"dict", "list"}, top
        thread = max(int(entry.name) for entry in Path(f"/proc/{target.pid}/task").iterdir())
        assert is_whole(thread)
