# SPDX-License-Identifier: MIT OR GPL-2.0
"""What the benchmarks of the sampled mode share: services, sessions, figures.

Everything listens on loopback, and every process that is started here ends with its context.
"""

import contextlib
import fcntl
import json
import os
import platform
import pty
import re
import select
import shlex
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "system"))
import support  # noqa: E402

WORKLOADS = HERE / "workloads"
PYTHON = "/usr/bin/python3"
SERVICES = ("json", "flask", "numpy", "echo", "sqlite")
WRK = ("wrk", "--latency", "-t1", "-c4")
START_SECONDS = 180  # on a busy machine


# --- services ---

def stock():
    return support.Interpreter(f"stock-3.11\t{PYTHON}\t/\t{PYTHON}")


class Service:
    """One of the services under load; `with` starts it and ends it.

    work: requests so far, cpu: seconds of the target's processes, leaked: calls by shape.
    """

    def __init__(self, name, leaks="", options=(), environment=None, interpreter=stock):
        self.name, self.leaks = name, leaks
        self.options, self.interpreter = list(options), interpreter
        self.environment = environment or {}
        self.pids = []

    def __enter__(self):
        python = self.interpreter()
        python.command += self.options
        self.program = support.Program(python, WORKLOADS, "service.py", self.name, self.leaks,
                                       env=support.environment(**self.environment))
        self.pids = [self.program.pid]
        try:
            self.program.expect("requests", timeout=START_SECONDS)
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.program.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.program.process.wait(timeout=3)
        support.stop(self.program.process)

    def progress(self):
        """(requests, CPU seconds, time) of the next line that it says."""
        self.program.read(0)
        after = len(self.program.lines)
        line = self.program.expect("requests", after=after, timeout=START_SECONDS)
        self.leaked = line["leaked"]
        return line["requests"], line["cpu"], time.monotonic()

    def calls(self):
        self.progress()
        return self.leaked


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Flask:
    """gunicorn with two workers, and wrk as its load."""

    name = "flask"

    def __init__(self, leaks="", workers=2, program="/usr/bin/gunicorn", more=()):
        self.leaks, self.workers, self.program, self.more = leaks, workers, program, more
        self.lines, self.said = [], {}

    def __enter__(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/users/7"
        self.process = support.start(
            [PYTHON, self.program, "--workers", self.workers, "--bind", f"127.0.0.1:{port}",
             "--log-level", "error", "--chdir", WORKLOADS, *self.more, "flask_app:app"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
            env=support.environment(BENCH_LEAKS=self.leaks))
        self.load_process = None
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            self.pids = self._workers()
            self._wait_for_answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.load_process:
            support.stop(self.load_process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(2)

    def _read(self):
        for text in self.process.stdout:
            with contextlib.suppress(ValueError, KeyError):
                line = json.loads(text)
                self.said[line["pid"]] = line

    def _workers(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            found = [int(pid) for pid in children.read_text().split()]
            if len(found) == self.workers:
                with contextlib.suppress(OSError):
                    socket.create_connection(self.url.split("/")[2].split(":"), 1).close()
                    return found
            time.sleep(0.1)
        raise SystemExit("gunicorn did not start its workers")

    def _wait_for_answer(self):
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.load(1)
            except SystemExit:
                if time.monotonic() > end:
                    raise

    def load(self, seconds):
        """One run of wrk: what it says, as numbers (seconds)."""
        result = subprocess.run([*WRK, f"-d{seconds}s", self.url], capture_output=True, text=True)
        told = parse_wrk(result.stdout)
        if not told["requests"]:
            raise SystemExit(f"the service does not answer: {result.stdout}")
        return told

    def keep_loaded(self, seconds):
        self.load_process = support.start([*WRK, f"-d{seconds}s", self.url],
                                          stdout=subprocess.DEVNULL)

    def cpu(self):
        return sum(cpu_seconds(pid) for pid in self.pids)

    def calls(self):
        total = {}
        for line in self.said.values():
            for shape, calls in line["leaked"].items():
                total[shape] = total.get(shape, 0) + calls
        return total


def service(name, leaks="", **more):
    return Flask(leaks, **more) if name == "flask" else Service(name, leaks, **more)


def wrk_seconds(text):
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if not found:
        return float("nan")
    number, unit = found.groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}[unit]


def parse_wrk(text):
    def find(pattern):
        found = re.search(pattern, text)
        if not found:
            raise SystemExit("wrk: " + text)
        return found.group(1)
    return {"rate": float(find(r"Requests/sec:\s+([\d.]+)")),
            "requests": int(find(r"(\d+) requests in")),
            "p50": wrk_seconds(find(r"50%\s+(\S+)")), "p99": wrk_seconds(find(r"99%\s+(\S+)")),
            "max": wrk_seconds(find(r"Latency\s+\S+\s+\S+\s+(\S+)"))}


# --- pyleakd ---

class Session:
    """An ad hoc session in the background; finish() gives the reports, a target each."""

    def __init__(self, pids, budget=1, mode="sampled", more=()):
        self.output = tempfile.NamedTemporaryFile()
        arguments = [word for pid in pids for word in ("--pid", pid)]
        arguments += ["--mode", mode, "-i", "1s", "-f", "json", "-o", self.output.name, *more]
        if mode == "sampled":
            arguments += ["--budget", budget]
        self.process = support.start([support.PYLEAKD, *arguments], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.started = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        support.stop(self.process)
        self.output.close()

    def finish(self):
        if self.process.poll() is not None:
            raise SystemExit(f"pyleakd ended by itself: {self.process.stderr.read()[-2000:]}")
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        self.rss_kib = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
        self.cpu = cpu_seconds(self.process.pid)
        self.seconds = time.monotonic() - self.started
        self.process.send_signal(signal.SIGINT)
        try:
            _, stderr = self.process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            stack = Path(f"/proc/{self.process.pid}/stack").read_text()
            raise SystemExit(f"pyleakd did not end in two minutes:\n{stack}") from None
        if self.process.returncode != 0:
            raise SystemExit(f"pyleakd ended with {self.process.returncode}: {stderr[-2000:]}")
        text = Path(self.output.name).read_text()
        return [json.loads(line) for line in text.splitlines() if line]


SERIES = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Daemon:
    """pyleakd with a configuration, for processes of the given names only."""

    def __init__(self, include, lines=()):
        self.directory = tempfile.TemporaryDirectory()
        place = Path(self.directory.name)
        config = place / "pyleakd.conf"
        config.write_text("\n".join(["listen = 127.0.0.1:0", f"include = {include}", *lines, ""]))
        self.errors = open(place / "errors", "w+")
        self.process = support.start([support.PYLEAKD, "--config", config],
                                     stdin=subprocess.DEVNULL, stderr=self.errors,
                                     env=support.environment(
                                         PYLEAKD_CACHE_DIRECTORY=str(place / "cache")))
        self.started = time.monotonic()
        while not (found := re.search(r" port (\d+)", self.said())):
            if time.monotonic() - self.started > START_SECONDS or self.process.poll() is not None:
                self.__exit__()
                raise SystemExit("pyleakd does not listen")
            time.sleep(0.05)
        self.port = int(found[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        support.stop(self.process)
        self.errors.close()
        self.directory.cleanup()

    def said(self):
        return (Path(self.directory.name) / "errors").read_text()

    def seconds(self):
        return time.monotonic() - self.started

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def targets(self):
        """The rows of its page, by pid."""
        return {row["pid"]: row for row in json.loads(self.get("/api/v1/targets"))}

    def series(self):
        """{name: [(labels, value)]} of /metrics."""
        found = {}
        for line in self.get("/metrics").splitlines():
            if match := SERIES.fullmatch(line):
                found.setdefault(match[1], []).append(
                    (dict(LABEL.findall(match[2] or "")), float(match[3])))
        return found


class Marks:
    """The marked lines of a shape: does a site name them?"""

    def __init__(self, shape):
        self.file = f"{shape}.py"
        self.facts, self.lines = support.zoo_facts(shape)

    def first_frame(self, frame):
        return os.path.basename(frame["file"]) == self.file and frame["line"] in self.lines

    def named(self, stack):
        """The site's own line, or where the zoo says so, one of its stack."""
        if self.facts.get("match") == "stack":
            return any(self.first_frame(frame) for frame in stack)
        return bool(stack) and self.first_frame(stack[0])


def bytes_a_call(shape):
    """By the allocators' own books, in a process of its own."""
    output = subprocess.run([PYTHON, support.ZOO / f"{shape}.py", "--truth", "2000,4000"],
                            capture_output=True, text=True, check=True,
                            env=support.environment()).stdout
    low, high = (json.loads(line)["bytes"] for line in output.splitlines())
    return (high - low) / 2000


# --- what a session says while it runs ---

SITE = re.compile(r"^(LEAK|growing|stable|warming)\b")
FRAME = re.compile(r"^ +(\S+):(\d+)\s+(\S+)")
LOOKS = 3


class LiveView:
    """A session on a terminal; screens() are the reports that it shows, as they come."""

    def __init__(self, pids, budget, mode="sampled"):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 80, 200, 0, 0))
        arguments = [word for pid in pids for word in ("--pid", str(pid))]
        self.process = support.start(
            [support.PYLEAKD, *arguments, "-m", mode, "-i", "1s",
             *(("-b", budget) if mode == "sampled" else ())],
            stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.PIPE,
            env=support.environment(NO_COLOR="1", TERM="dumb"))
        os.close(slave)
        self.master, self.text = master, ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        support.stop(self.process)
        os.close(self.master)

    def screens(self, seconds):
        """(seconds since the session began, report of a target as text)"""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if not select.select([self.master], [], [], 0.2)[0]:
                continue
            try:
                self.text += os.read(self.master, 1 << 16).decode(errors="replace")
            except OSError:
                raise SystemExit("pyleakd ended: " + self.process.stderr.read().decode()) from None
            *whole, self.text = self.text.replace("\r", "").split("\nseen ")
            for screen in whole:
                yield time.monotonic() - started, screen


def first_site(screen):
    """(verdict, frames) of the site that stands first; None without one."""
    lines = iter(screen.split("\n"))
    for line in lines:
        found = SITE.match(line)
        if found:
            frames = []
            for frame in map(FRAME.match, lines):
                if not frame:
                    break
                frames.append({"file": frame[1], "line": int(frame[2])})
            return found[1], frames
    return None


def target_of(screen):
    found = re.search(r" pid (\d+) ", screen)
    return found[1] if found else None


class Answer:
    """When a session named the right line (None: it did not), looks, and those at a wrong one."""

    def __init__(self):
        self.seconds, self.wrong, self.looks = None, 0, 0


def watch(pids, shape, limit, budget, mode="sampled"):
    """Looks until the first site of a target is the marked line, leak or growing, LOOKS times."""
    answer, marks, right = Answer(), Marks(shape), {}
    with LiveView(pids, budget, mode) as view:
        for seconds, screen in view.screens(limit):
            answer.looks += 1
            site, target = first_site(screen), target_of(screen)
            if not site or site[0] not in ("LEAK", "growing"):
                right[target] = []
            elif marks.named(site[1]):
                right.setdefault(target, []).append(seconds)
                if len(right[target]) == LOOKS:
                    answer.seconds = right[target][0]
                    break
            else:
                answer.wrong += 1
                right[target] = []
    return answer


# --- figures ---

def cpu_seconds(pid):
    """User and system time of all threads, finer than clock ticks where the scheduler tells."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError, IndexError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9 if total else support.cpu_seconds(pid)


def rss_anon_kib(pids):
    return sum(int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
                   .group(1)) for pid in pids)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(share * len(ordered) + 0.5) - 1))]


def spread(values, form="{:.2f}"):
    """Median, and the range."""
    return (form + " ({} … {})").format(statistics.median(values),
                                        form.format(min(values)), form.format(max(values)))


def machine(moment):
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (f"{moment} {time.strftime('%H:%M')}: Linux {platform.release()}, {os.cpu_count()} "
            f"processors, load {load}")


def begin():
    """The first lines of every table: how it was made, and where."""
    version = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"],
                             capture_output=True, text=True).stdout.strip()
    build = os.environ.get("PYLEAKD_REVISION", version or "?")
    print(f"$ bench/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}   (at {build})")
    print(machine("begun"), flush=True)


def end():
    print(machine("ended"), flush=True)
