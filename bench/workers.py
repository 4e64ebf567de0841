# SPDX-License-Identifier: MIT OR GPL-2.0
"""Whether the daemon names a leak whose workers die young: gunicorn with --max-requests.

    workers.py [--rate BYTES] [--lifetime S] [--limit S] [--shapes …] [--interval TIME]  (as root)

Flask under gunicorn, two workers, loaded by wrk; each worker leaks the rate a second, and ends
after as many requests as take it about the lifetime. The daemon runs with its defaults. The answer
is there when pyleakd_program_site_leak is 1 at the shape's file; "wrong" are lines at which it ever
was 1 and that are none of the shape's. "gained" is the share of what the workers said they had
leaked since the first of them was sampled that stands at the shape's lines in the end. What is
below two intervals of age counts for nothing ("lived" is what the workers' lives came to).
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import harness
import support

SHAPES = ("none", "dict_among_churn", "instances_with_dict", "strings_kept")
MEASURE_SECONDS = 4
LOOK_SECONDS = 1


def requests_of(lifetime, program):
    """That one of two workers answers meanwhile."""
    with harness.Flask(program=program) as plain:
        return max(100, int(plain.load(MEASURE_SECONDS)["rate"] / plain.workers * lifetime))


class Run:
    """What one shape's run came to."""

    def __init__(self, shape):
        self.shape = shape
        self.sampled_seconds = self.named_seconds = None
        self.workers, self.sampled, self.wrong = set(), set(), set()
        self.leaked_before = self.leaked_bytes = self.gained_bytes = 0
        self.cpu_percent = self.rss_kib = 0


def look(run, daemon, target, bytes_a_call):
    rows, series = daemon.targets(), daemon.series()
    leaked = bytes_a_call * sum(target.calls().values())
    run.workers |= set(target.said)
    run.sampled |= {pid for pid, row in rows.items() if row["state"] == "sampled"}
    if run.sampled and run.sampled_seconds is None:
        run.sampled_seconds, run.leaked_before = daemon.seconds(), leaked
    run.leaked_bytes = leaked - run.leaked_before
    own = f"{run.shape}.py"
    for labels, value in series.get("pyleakd_program_site_leak", []):
        if value == 1 and os.path.basename(labels["file"]) == own:
            run.named_seconds = run.named_seconds or daemon.seconds()
        elif value == 1:
            run.wrong.add(f"{labels['function']} in {os.path.basename(labels['file'])}")
    run.gained_bytes = sum(value for labels, value
                           in series.get("pyleakd_program_site_gained_bytes", [])
                           if os.path.basename(labels["file"]) == own)


def measure(shape, options, program, requests):
    run = Run(shape)
    leaks, bytes_a_call = "", 0
    if shape != "none":
        bytes_a_call = harness.bytes_a_call(shape)
        leaks = f"{shape}={options.rate / bytes_a_call}"
    more = ["--max-requests", str(requests), "--max-requests-jitter", str(requests // 5)]
    with harness.Flask(leaks, program=program, more=more) as target, \
            contextlib.ExitStack() as stack:
        run.at_once = target.workers
        target.keep_loaded(int(options.limit + 60))
        stack.callback(support.stop, target.load_process)
        daemon = stack.enter_context(harness.Daemon(Path(program).name,
                                                    [f"interval = {options.interval}"]))
        while daemon.seconds() < options.limit and run.named_seconds is None:
            time.sleep(LOOK_SECONDS)
            look(run, daemon, target, bytes_a_call)
        run.seconds = daemon.seconds()
        run.cpu_percent = 100 * harness.cpu_seconds(daemon.process.pid) / run.seconds
        if options.verbose:
            print(daemon.said())
            print("\n".join(line for line in daemon.get("/metrics").splitlines()
                            if "program_site" in line))
    return run


def print_table(runs):
    def seconds(value):
        return "-" if value is None else f"{value:.0f} s"
    print(f"{'shape':<22}{'workers':>9}{'lived':>8}{'sampled':>9}{'first':>8}{'named':>8}"
          f"{'gained':>9}{'CPU':>8}  wrong")
    for run in runs:
        share = (f"{100 * run.gained_bytes / run.leaked_bytes:.0f} %" if run.leaked_bytes > 0
                 else "-")
        lived = run.at_once * run.seconds / max(1, len(run.workers))
        print(f"{run.shape:<22}{len(run.workers):>9}{lived:>6.0f} s{len(run.sampled):>9}"
              f"{seconds(run.sampled_seconds):>8}{seconds(run.named_seconds):>8}{share:>9}"
              f"{run.cpu_percent:>6.1f} %  {', '.join(sorted(run.wrong)) or '-'}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=20000)
    parser.add_argument("--lifetime", type=float, default=25)
    parser.add_argument("--limit", type=float, default=600)
    parser.add_argument("--interval", default="5s")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    harness.begin()
    with tempfile.TemporaryDirectory() as directory:
        # A name of its own: other gunicorns of the host are none of its business.
        program = str(Path(directory) / f"gunicorn{os.getpid()}")
        shutil.copy("/usr/bin/gunicorn", program)
        requests = requests_of(options.lifetime, program)
        print(f"a worker ends after {requests} to {requests + requests // 5} requests, each leaks "
              f"{options.rate / 1000:.0f} KB/s", flush=True)
        print_table([measure(shape, options, program, requests)
                     for shape in options.shapes.split(",")])
    harness.end()


main()
