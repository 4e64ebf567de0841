# SPDX-License-Identifier: MIT OR GPL-2.0
"""What many processes cost the daemon, and how soon it names the one of them that leaks.

    targets.py [--targets 10,30,100] [--leaking N] [--rate BYTES] [--limit S] [--least S]
               [--shape SHAPE]                                                        (as root)

Half of the processes are idle, half mildly busy (bench/workloads/mild.py); the last of them, or as
many as are to be leaking, leak the rate a second, and the last one's figures are told. The daemon
runs with its defaults, and finds them all running. "opened" is when every process has been tried;
"watched" is the CPU from then until the leaking one is sampled, "sampled" from then on, both of one
core; memory is the most that was resident. A run lasts until the line is named (pyleakd_site_leak
is 1 at the shape's file), and the least of seconds.
"""

import argparse
import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import harness
import support

LOOK_SECONDS = 1


def start_all(n, leaks, leaking, directory, stack):
    """The processes, each a program with a name of its own; the last of them leak."""
    python = support.Interpreter(f"stock-3.11\t{harness.PYTHON}\t/\t{harness.PYTHON}")
    name = f"mild{os.getpid()}"
    paths = [str(harness.WORKLOADS), str(support.ZOO)]
    environment = support.environment(PYTHONPATH=":".join(paths))
    programs = []
    for i in range(n):
        shutil.copy(harness.WORKLOADS / "mild.py", directory / f"{name}-{i}.py")
        arguments = ["busy", leaks] if i >= n - leaking else ["busy" if i % 2 else "idle"]
        program = support.Program(python, directory, f"{name}-{i}.py", *arguments, env=environment)
        programs.append(stack.enter_context(program))
    for program in programs:
        program.expect("ready", timeout=harness.START_SECONDS)
    return f"{name}-*", programs


class Run:
    def __init__(self, n):
        self.n = n
        self.opened = self.sampled = self.named = None
        self.marks = {}  # when: (seconds, CPU seconds)
        self.rss_kib = 0
        self.others_sampled, self.wrong = set(), set()


def look(run, daemon, pid, shape):
    now, cpu = daemon.seconds(), harness.cpu_seconds(daemon.process.pid)
    rows, series = daemon.targets(), daemon.series()
    run.marks["last"] = now, cpu
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    run.rss_kib = max(run.rss_kib, int(re.search(r"VmRSS:\s+(\d+)", status).group(1)))
    if run.opened is None and len(rows) == run.n and \
            not any(row["state"] == "new" for row in rows.values()):
        run.opened, run.marks["opened"] = now, (now, cpu)
    if run.sampled is None and rows.get(pid, {}).get("state") == "sampled":
        run.sampled, run.marks["sampled"] = now, (now, cpu)
    run.others_sampled |= {other for other, row in rows.items()
                           if other != pid and row["state"] == "sampled"}
    for labels, value in series.get("pyleakd_site_leak", []):
        if value != 1:
            continue
        if labels["pid"] == str(pid) and os.path.basename(labels["file"]) == f"{shape}.py":
            run.named = run.named or now
        else:
            run.wrong.add(f"{labels['function']} in {os.path.basename(labels['file'])}")


def measure(n, leaks, options):
    run = Run(n)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        name, programs = start_all(n, leaks, options.leaking, directory, stack)
        daemon = stack.enter_context(harness.Daemon(name))
        while daemon.seconds() < options.limit:
            time.sleep(LOOK_SECONDS)
            look(run, daemon, programs[-1].pid, options.shape)
            if run.named and daemon.seconds() > options.least:
                break
        if options.verbose:
            print(daemon.said(), daemon.get("/metrics"))
    return run


def seconds(value):
    return "-" if value is None else f"{value:.0f} s"


def percent_between(run, first, last):
    if first not in run.marks or last not in run.marks:
        return "-"
    (began, before), (ended, after) = run.marks[first], run.marks[last]
    return f"{100 * (after - before) / (ended - began):.2f} %" if ended > began else "-"


def print_table(runs):
    print(f"{'processes':>9}{'opened':>9}{'CPU for it':>12}{'watched':>10}{'sampled':>10}"
          f"{'memory':>10}{'sampled at':>12}{'named at':>10}  others sampled, wrong lines")
    for run in runs:
        opening = f"{run.marks['opened'][1]:.2f} s" if run.opened else "-"
        print(f"{run.n:>9}{seconds(run.opened):>9}{opening:>12}"
              f"{percent_between(run, 'opened', 'sampled'):>10}"
              f"{percent_between(run, 'sampled', 'last'):>10}{run.rss_kib / 1024:>6.0f} MiB"
              f"{seconds(run.sampled):>12}{seconds(run.named):>10}  "
              f"{len(run.others_sampled)}, {', '.join(sorted(run.wrong)) or '-'}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", default="10,30,100")
    parser.add_argument("--leaking", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20000)
    parser.add_argument("--limit", type=float, default=300)
    parser.add_argument("--least", type=float, default=90)
    parser.add_argument("--shape", default="instances_with_dict")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    harness.begin()
    leaks = f"{options.shape}={options.rate / harness.bytes_a_call(options.shape)}"
    print_table([measure(int(n), leaks, options) for n in options.targets.split(",")])
    harness.end()


main()
