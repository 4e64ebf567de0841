# SPDX-License-Identifier: MIT OR GPL-2.0
"""The sampled mode in trouble: what happens to the target, or to pyleakd, while probes are in.

A session's first windows (it learns the heat of all creation sites) open into an untouched target:
from the first breakpoint on one is open, for some 10 ms, and longer on a loaded machine.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import support
import test_changes
import test_guards
from support import TARGETS, Program, pyleakd, report_of, session
from test_guards import swap  # noqa: F401 (a fixture)

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

WORKLOADS = support.ROOT / "bench" / "workloads"
SAMPLED = ("--mode", "sampled", "--budget", "5", "--interval", "1s", "--format", "json")
BREAKPOINT = b"\xcc"

# Works all the time; forks, or ends in one of several ways, when it is told to.
BUSY = """
import json, os, select, signal, sys, time
kept = []
def leak():
    kept.append({'row': [len(kept)]})  # LEAK
def work():
    rows = [{'n': n, 'text': str(n), 'half': n / 2} for n in range(200)]
    return json.loads(json.dumps(rows))
def say(**what):
    os.write(1, (json.dumps(what) + '\\n').encode())
def fork(*_):
    if os.fork() == 0:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        say(child=os.getpid())
        while os.getppid() == PARENT:
            work()
        os._exit(0)
PARENT = os.getpid()
signal.signal(signal.SIGUSR1, fork)
signal.signal(signal.SIGUSR2, lambda *_: os.execv(sys.executable, [sys.executable, *sys.argv]))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
say(ready=True)
n = 0
while True:
    work()
    for _ in range(5):
        leak()
    n += 1
    if n % 50 == 0:
        say(work=n)
        if select.select([0], [], [], 0)[0] and not os.read(0, 100):
            sys.exit(0)
"""


class Text:
    """The executable mappings of a process: how many breakpoints are in them, cheaply."""

    def __init__(self, pid, like=None):
        self.pid = pid
        self.mappings = [mapping for mapping in support.mappings(pid)
                         if "x" in mapping.protection and mapping.path.startswith("/")
                         and ("python" in mapping.path or "libc" in mapping.path)]
        self.plain = like.plain if like else self._count()

    def _count(self):
        count = 0
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            for mapping in self.mappings:
                memory.seek(mapping.start)
                count += memory.read(mapping.end - mapping.start).count(BREAKPOINT)
        return count

    def breakpoints(self):
        return self._count() - self.plain

    def wait(self, condition, timeout=30, process=None):
        """Seconds until the number of breakpoints meets the condition."""
        began = time.monotonic()
        while time.monotonic() < began + timeout:
            if condition(self.breakpoints()):
                return time.monotonic() - began
            assert process is None or process.poll() is None, process.stderr.read()[-2000:]
        raise AssertionError(f"{self.breakpoints()} breakpoints after {timeout} s")


# Half a minute each, and not of the things that break a target: SLOW=1 runs them.
half_a_minute = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 runs it")


def busy(directory):
    (directory / "busy_forks.py").write_text(BUSY)
    return "busy_forks.py"


def goes_on(target):
    """It does its work."""
    target.read(0)
    target.expect("work", after=len(target.lines))


def links_of(pid):
    return [link for link in support.bpf_links().values() if link.get("pid") == pid]


def assert_whole(pid):
    assert test_changes.is_whole(pid), support.text_differences(pid)[:5]
    assert not links_of(pid)


def end(process, timeout=60):
    support.interrupt(process)
    stdout, stderr = process.communicate(timeout=timeout)
    assert process.returncode == 0, stderr[-2000:]
    return [json.loads(line) for line in stdout.splitlines()]


def marked_line(source):
    return next(number for number, line in enumerate(source.splitlines(), 1)
                if line.endswith("# LEAK"))


def stay(text, seconds, timeout=60):
    """Whether breakpoints are in without a break for so long, some time."""
    since, until = time.monotonic(), time.monotonic() + timeout
    while time.monotonic() < until:
        if not text.breakpoints():
            since = time.monotonic()
        if time.monotonic() - since > seconds:
            return True
        time.sleep(0.02)
    return False


# --- forks ----------------------------------------------------------------------------------------

def forked(target, text):
    """Makes the target fork; the child's text, and for how long it was trapped at most."""
    target.read(0)
    after = len(target.lines)
    target.process.send_signal(signal.SIGUSR1)
    child = Text(target.expect("child", after=after)["child"], like=text)
    return child, child.wait(lambda n: n == 0)


def refused(report):
    """Probes of new pools may be too hot for a busy target, which is told: that is no fault."""
    return [row for row in report["refused"] if row["what"] != "probes of new pools"]


def test_a_fork_drops_all_probes_and_they_come_back(stock, tmp_path):
    with Program(stock, tmp_path, busy(tmp_path)) as target:
        target.expect("ready")
        text = Text(target.pid)
        with session(*SAMPLED, "--pid", target.pid) as process:
            text.wait(lambda n: n > 0, process=process)
            children, trapped = [], []
            for pause in (0, 1.5, 3):  # in a window; while sites are tried; when some are on
                time.sleep(pause)
                child, seconds = forked(target, text)
                children.append(child)
                trapped.append(seconds)
            text.wait(lambda n: n > 0, process=process)
            time.sleep(1)
            assert [child.breakpoints() for child in children] == [0, 0, 0], trapped
            report, = end(process)
        print("children were trapped for at most", trapped)
        assert report["session"]["windows"] > 0
        # Pools of this program empty and refill too often; that is of the probes of pools alone.
        assert {refused["what"] for refused in report["refused"]} <= {"probes of new pools"}, report
        for pid in (target.pid, *(child.pid for child in children)):
            assert_whole(pid)
        goes_on(target)


@half_a_minute
def test_a_target_that_forks_often_is_watched_and_that_is_told(stock):
    with Program(stock, TARGETS, "forker.py") as target:
        target.expect("ready")
        report = report_of(pyleakd(*SAMPLED, "--pid", target.pid, "--duration", "12s"))
        assert any("forks often" in refused["why"] for refused in report["refused"]), report
        assert report["totals"]["python_live_blocks"] > 1000
        assert_whole(target.pid)
        target.read(0)
        target.expect("child", after=len(target.lines))


def test_a_command_that_is_started_drops_nothing(stock, tmp_path):
    """Its process shares the target's memory until it executes: no copy of the text is made."""
    (tmp_path / "spawns.py").write_text(
        "import json, os, subprocess, time\n"
        "print(json.dumps({'ready': True}), flush=True)\n"
        "while True:\n"
        "    pid = os.posix_spawn('/bin/true', ['true'], os.environ)\n"
        "    os.waitpid(pid, 0)\n"
        "    end = time.monotonic() + 0.1\n"
        "    while time.monotonic() < end:\n"
        "        [str(n) for n in range(100)]\n"
        "    print(json.dumps({'work': pid}), flush=True)\n")
    with Program(stock, tmp_path, "spawns.py") as target:
        target.expect("ready")
        text = Text(target.pid)
        with session(*SAMPLED, "--pid", target.pid) as process:
            text.wait(lambda n: n > 0, process=process)
            # Were they dropped for each, none would be in for so long as 30 commands take.
            assert stay(text, seconds=3), "probes went"
            report, = end(process)
        assert not refused(report), report["refused"]
        assert_whole(target.pid)


# --- the target stops, or ends --------------------------------------------------------------------

class Stopped:
    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


class Frozen:
    """By the control group's freezer, version 1 or 2."""

    def __init__(self, pid):
        self.pid = pid
        first = Path("/sys/fs/cgroup/freezer")
        self.v1 = (first / "cgroup.procs").exists()
        base = first if self.v1 else Path("/sys/fs/cgroup")
        self.path = base / f"pyleakd-freezer-{os.getpid()}"
        try:
            self.path.mkdir()
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            self._remove()
            pytest.skip(f"no freezer: {error}")

    def _remove(self):
        with contextlib.suppress(OSError):
            (self.path.parent / "cgroup.procs").write_text(str(self.pid))
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError, OSError):
                self.path.rmdir()
            if not self.path.exists():
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.path} could not be removed")

    def _set(self, frozen):
        if self.v1:
            (self.path / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        else:
            (self.path / "cgroup.freeze").write_text("1" if frozen else "0")

    def __enter__(self):
        self._set(True)

    def __exit__(self, *_):
        self._set(False)
        self._remove()


@pytest.mark.parametrize("how", [Stopped, Frozen], ids=["sigstop", "freezer"])
def test_windows_of_a_target_that_stands_still_end_in_time(stock, tmp_path, how):
    with Program(stock, tmp_path, busy(tmp_path)) as target:
        target.expect("ready")
        text = Text(target.pid)
        still = how(target.pid)
        with session(*SAMPLED, "--pid", target.pid) as process:
            text.wait(lambda n: n > 0, process=process)
            with still:
                text.wait(lambda n: n == 0, process=process)
                time.sleep(3)
                assert process.poll() is None
            goes_on(target)
            time.sleep(2)
            with still if how is Stopped else contextlib.nullcontext():
                report, = end(process)  # it ends though the target stands still
        assert report["session"]["windows"] > 1
        assert_whole(target.pid)
        goes_on(target)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR2],
                         ids=["exit", "sigkill", "exec"])
@pytest.mark.parametrize("late", [False, True], ids=["learning", "later"])
def test_a_target_that_ends_in_a_window_ends_the_session(stock, tmp_path, how, late):
    with Program(stock, tmp_path, busy(tmp_path)) as target:
        target.expect("ready")
        text = Text(target.pid)
        with session(*SAMPLED, "--pid", target.pid) as process:
            text.wait(lambda n: n > 0, process=process)
            if late:
                time.sleep(6)
                on = text.breakpoints()
                text.wait(lambda n: n > on, process=process)
            target.process.send_signal(how)
            stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr[-2000:]
        report = json.loads(stdout)
        assert report["session"]["windows"] > 0
        assert how == signal.SIGUSR2 or not refused(report), report["refused"]
        if how == signal.SIGUSR2:
            target.expect("ready", after=1)
            assert_whole(target.pid)


# The heap goes before the process does: names that begin with an underscore first.
LASTS = """
import json, os, signal, sys, time
_kept = []
def leak():
    _kept.append({'row': [len(_kept)]})  # LEAK
class Last:
    def __del__(self, sleep=time.sleep):
        sleep(3)
last = Last()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGUSR2, lambda *_: os.execv('/bin/sleep', ['sleep', '60']))
os.write(1, (json.dumps({'ready': True}) + '\\n').encode())
while True:
    leak()
    time.sleep(0.002)
"""


@half_a_minute
@pytest.mark.parametrize("how, moment", [(signal.SIGTERM, "finalization"),
                                         (signal.SIGKILL, "exit"), (signal.SIGUSR2, "exec")],
                         ids=["finalization", "sigkill", "exec"])
def test_what_a_target_kept_is_told_though_its_heap_has_gone(stock, tmp_path, how, moment):
    (tmp_path / "lasts.py").write_text(LASTS)
    with Program(stock, tmp_path, "lasts.py") as target:
        target.expect("ready")
        with session(*SAMPLED, "--pid", target.pid) as process:
            Text(target.pid).wait(lambda n: n > 0, process=process)
            time.sleep(12)
            target.process.send_signal(how)
            stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr[-2000:]
        report = json.loads(stdout)
        assert report["session"]["moment"] == moment, report["session"]
        kept = sum(site["outstanding_objects"] for site in report["sites"]
                   if site["stack"] and site["stack"][0]["line"] == marked_line(LASTS)
                   and site["stack"][0]["file"].endswith("lasts.py"))
        assert kept > 1000, report["sites"][:3]


# --- pyleakd is killed, or late -------------------------------------------------------------------

def test_a_pyleakd_that_is_killed_in_a_window_leaves_the_target_whole(stock, tmp_path):
    with Program(stock, tmp_path, busy(tmp_path)) as target:
        target.expect("ready")
        text = Text(target.pid)
        most = []
        for moment in (0, 0.005, 0.02, 4, 5):
            with session(*SAMPLED, "--pid", target.pid) as process:
                text.wait(lambda n: n > 0, process=process)
                time.sleep(moment)
                if moment >= 1:  # some are always on: until there are more
                    on = text.breakpoints()
                    text.wait(lambda n, on=on: n > on, process=process)
                most.append(text.breakpoints())
                process.kill()
                process.wait()
            text.wait(lambda n: n == 0)
            assert_whole(target.pid)
            goes_on(target)
        assert max(most) > 0, most


@contextlib.contextmanager
def loaded(count, nice):
    """So many busy loops that come before everybody else."""
    loops = [support.start(["nice", "-n", str(nice), "sh", "-c", "while :; do :; done"])
             for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            support.stop(loop)


# What is learned at the start is outside of the budget: three windows of some 20 ms.
LEARNING_SECONDS = 0.06


@half_a_minute
def test_on_a_loaded_machine_windows_are_late_and_the_books_within_the_budget(stock):
    with Program(stock, WORKLOADS, "handler.py") as target:
        target.expect("ready")
        with loaded(4, -5):
            result = pyleakd(*SAMPLED, "--pid", target.pid, "--duration", "20s", timeout=120)
        report = report_of(result)["session"]
        assert report["windows"] > 0
        assert 0 < report["overhead_ratio"] <= 0.05 + LEARNING_SECONDS / 20, report
        assert_whole(target.pid)
        target.read(0)
        target.expect("requests", after=len(target.lines))


@half_a_minute
def test_the_budget_is_kept_by_what_was_counted(stock):
    """A target that does nothing but allocate; from the second minute on it is a hard bound, before
    that what is learned comes on top."""
    seconds, reports = 40, {}

    def run(budget):
        with Program(stock, WORKLOADS, "handler.py") as target:
            target.expect("ready")
            reports[budget] = report_of(pyleakd(
                *SAMPLED, "--budget", budget, "--pid", target.pid, "--duration", f"{seconds}s",
                timeout=120))["session"]

    threads = [threading.Thread(target=run, args=(budget,)) for budget in ("1", "5")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for budget in ("1", "5"):
        report = reports[budget]
        assert report["budget_ratio"] == int(budget) / 100
        assert report["windows"] > 3
        assert report["events"] > 1000
        assert 0 < report["overhead_ratio"] <= \
            1.05 * report["budget_ratio"] + LEARNING_SECONDS / seconds, report


# --- memory ---------------------------------------------------------------------------------------

@pytest.mark.needs("cgroup-memory")
def test_below_its_memory_limit_a_target_is_watched_until_room_comes_back(stock, cgroup):
    target = test_guards.idle_target(stock, cgroup)
    try:
        text = Text(target.pid)
        cgroup.reclaim()
        cgroup.limit((cgroup.usage() + 200 * test_guards.KIB) // 4096 * 4096)
        report = report_of(pyleakd(*SAMPLED, "--pid", target.pid, "--duration", "3s"))
        assert target.poll() is None, "the target was killed"
        assert report["session"]["mode"] == "watch"
        assert any("memory" in refused["why"] for refused in report["refused"]), report["refused"]
        assert report["totals"]["python_live_blocks"] > 50000, "not even watched"
        with session(*SAMPLED, "--pid", target.pid) as process:
            end_of_watch = time.monotonic() + 8  # some refusals long
            while time.monotonic() < end_of_watch:
                assert text.breakpoints() == 0
                time.sleep(0.01)
            cgroup.limit(cgroup.usage() + 64 * test_guards.KIB * test_guards.KIB)
            text.wait(lambda n: n > 0, timeout=60, process=process)
            time.sleep(1)
            report, = end(process)
        assert report["session"]["mode"] == "sampled"
        assert any("memory" in refused["why"] for refused in report["refused"]), report["refused"]
        assert target.poll() is None, "the target was killed"
        assert_whole(target.pid)
    finally:
        support.stop(target)


@half_a_minute
@pytest.mark.needs("cgroup-memory")
def test_room_that_goes_while_it_is_sampled_ends_the_windows(stock, cgroup):
    with Program(stock, WORKLOADS, "handler.py") as target:
        target.expect("ready")
        cgroup.add(target.pid)
        text = Text(target.pid)
        with session(*SAMPLED, "--pid", target.pid) as process:
            text.wait(lambda n: n > 0, process=process)
            time.sleep(1)
            cgroup.reclaim()
            cgroup.limit((cgroup.usage() + 700 * test_guards.KIB) // 4096 * 4096)
            time.sleep(6)
            assert target.process.poll() is None, "the target was killed"
            cgroup.limit(cgroup.usage() + 256 * test_guards.KIB * test_guards.KIB)
            report, = end(process)
        assert any("memory" in refused["why"] for refused in report["refused"]), report
        assert_whole(target.pid)
        target.read(0)
        target.expect("requests", after=len(target.lines))


@pytest.mark.needs("swap")
def test_a_sampled_target_that_is_swapped_out_stays_so(stock, swap):
    target = support.start([*stock.command, "-c", test_guards.SWAPPED], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE)
    try:
        assert target.stdout.readline()
        time.sleep(0.5)
        before = test_guards.swapped_kb(target.pid)
        if before < 16 << 10:
            pytest.skip(f"only {before} KiB could be swapped out")
        report_of(pyleakd(*SAMPLED, "--pid", target.pid, "--duration", "5s"))
        assert test_guards.swapped_kb(target.pid) >= 0.98 * before
        assert_whole(target.pid)
    finally:
        support.stop(target)


# --- several sessions, several targets ------------------------------------------------------------

LEAKS_SLOWLY = """
import json, os, select, sys, time
kept = []
def leak():
    kept.append({'row': [len(kept)]})  # LEAK
def say(**what):
    os.write(1, (json.dumps(what) + '\\n').encode())
say(ready=True)
while True:
    leak()
    time.sleep(0.002)
    if len(kept) % 50 == 0:
        say(work=len(kept))
"""


def slow(directory, name="slow.py"):
    (directory / name).write_text(LEAKS_SLOWLY)
    return name


CALLS_A_SECOND_MIN = 300  # of nearly 500: a machine that lets it fall behind makes steps of a slope


def assert_named(report, name, source):
    """The first site is the marked line, and flagged, if the leak could keep its pace."""
    top = report["sites"][0]
    assert top["stack"][0]["file"].endswith(name), top
    assert top["stack"][0]["line"] == marked_line(source), top
    dicts = sum(kind["objects"] for kind in top["types"] if kind["name"] == "dict")
    if dicts >= CALLS_A_SECOND_MIN * report["session"]["duration_seconds"]:
        assert top["verdict"] in ("leak", "growing"), top


@half_a_minute
@pytest.mark.parametrize("other", ["sampled", "exact"])
def test_two_sessions_on_one_target_are_both_right(stock, tmp_path, other):
    name = slow(tmp_path)
    with Program(stock, tmp_path, name) as target:
        target.expect("ready")
        text = Text(target.pid)
        options = SAMPLED if other == "sampled" else ("--mode", "exact", *SAMPLED[4:])
        with session(*SAMPLED, "--pid", target.pid) as first:
            text.wait(lambda n: n > 0, process=first)
            with session(*options, "--pid", target.pid) as second:
                time.sleep(30)
                reports = [*end(second)]
                time.sleep(1)
                assert first.poll() is None
                reports += end(first)
        for report in reports:
            assert report["session"]["events_lost"] == 0
            assert_named(report, name, LEAKS_SLOWLY)
        assert_whole(target.pid)
        goes_on(target)


@half_a_minute
def test_windows_of_two_targets_take_turns_and_both_reports_are_right(stock, tmp_path):
    names = slow(tmp_path, "one.py"), slow(tmp_path, "other.py")
    with Program(stock, tmp_path, names[0]) as one, Program(stock, tmp_path, names[1]) as other:
        one.expect("ready")
        other.expect("ready")
        with session(*SAMPLED, "--pid", one.pid, "--pid", other.pid) as process:
            texts = Text(one.pid), Text(other.pid)
            time.sleep(30)
            reports = {report["target"]["pid"]: report for report in end(process)}
        del texts
        for target, name in ((one, names[0]), (other, names[1])):
            assert reports[target.pid]["session"]["windows"] > 0
            assert_named(reports[target.pid], name, LEAKS_SLOWLY)
            assert_whole(target.pid)


PREFORK = """
import json, os, signal, sys, time
kept = []
def leak():
    kept.append({'row': [len(kept)]})  # LEAK
def say(**what):
    os.write(1, (json.dumps(what) + '\\n').encode())
say(ready=True)
master, workers = os.getpid(), []
def worker():
    say(worker=os.getpid())
    while os.getppid() == master:
        leak()
        time.sleep(0.002)
    os._exit(0)
for line in sys.stdin:
    if os.fork() == 0:
        worker()
"""


@half_a_minute
def test_workers_that_are_forked_in_a_session_are_sampled_too(stock, tmp_path):
    (tmp_path / "prefork.py").write_text(PREFORK)
    with Program(stock, tmp_path, "prefork.py") as target:
        target.expect("ready")
        target.say("one")
        first = target.expect("worker")["worker"]
        workers = [first]
        with session(*SAMPLED, "--pid", target.pid, "--subprocesses") as process:
            Text(first).wait(lambda n: n > 0, process=process)
            for number in (1, 2):
                after = len(target.lines)
                target.say("another")
                workers.append(target.expect("worker", after=after)["worker"])
            time.sleep(30)
            reports = {report["target"]["pid"]: report for report in end(process)}
        assert set(reports) == {target.pid, *workers}
        for worker in workers:
            assert reports[worker]["session"]["windows"] > 0
            assert_named(reports[worker], "prefork.py", PREFORK)
        assert not [site for site in reports[target.pid]["sites"]
                    if site["verdict"] in ("leak", "growing")]
        for pid in (target.pid, *workers):
            assert_whole(pid)
