# SPDX-License-Identifier: MIT OR GPL-2.0
"""What the exact mode costs a target, beside tracemalloc, in the same run (as root).

    exact.py [--rounds N] [--seconds S]

The kinds of run take turns, so that a machine that gets slower meets all of them; medians and
ranges are over the rounds. Hits and the programs' own time come from the kernel's statistics of
BPF programs (kernel.bpf_stats_enabled); what a hit costs beyond them is the trap.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "system"))
import support  # noqa: E402

WORKLOADS = HERE / "workloads"
STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")


def programs():
    """name → (runs, nanoseconds) of the BPF programs that are loaded."""
    tool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    output = subprocess.run([tool, "-j", "prog", "list"], capture_output=True, text=True).stdout
    return {(program["id"], program.get("name", "?")):
            (program.get("run_cnt", 0), program.get("run_time_ns", 0))
            for program in json.loads(output)}


def hits_between(before, after):
    result = {}
    for key, (runs, nanoseconds) in after.items():
        runs -= before.get(key, (0, 0))[0]
        nanoseconds -= before.get(key, (0, 0))[1]
        if runs > 0:
            total = result.setdefault(key[1], [0, 0])
            total[0] += runs
            total[1] += nanoseconds
    return result


class Measured:
    """One run: CPU microseconds a request; with pyleakd its report and its programs' statistics."""

    def __init__(self, microseconds, requests=0, seconds=0.0, report=None, hits=None):
        self.microseconds = microseconds
        self.requests = requests
        self.seconds = seconds
        self.report = report
        self.hits = hits or {}


def measure(target, seconds):
    """Requests and CPU time over so many seconds."""
    target.read(0)
    first = target.expect("requests", after=len(target.lines))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        target.read(0.2)
    last = next(line for line in reversed(target.lines) if "requests" in line)
    requests = last["requests"] - first["requests"]
    return requests, (last["cpu"] - first["cpu"])


def python_with(*options):
    stock = support.interpreter("stock-3.11")
    changed = support.Interpreter(f"{stock.name}\t{stock.command[0]}\t/\t{stock.elf}")
    changed.command = stock.command + list(options)
    return changed


def run_alone(workload, seconds, *options):
    with support.Program(python_with(*options), WORKLOADS, workload) as target:
        target.expect("requests")
        requests, cpu = measure(target, seconds)
    return Measured(1e6 * cpu / requests, requests, cpu)


def run_exact(workload, seconds):
    with support.Program(python_with(), WORKLOADS, workload) as target, \
            tempfile.NamedTemporaryFile() as output:
        target.expect("requests")
        with support.session("--pid", target.pid, "--mode", "exact", "--format", "json",
                             "--output", output.name, stdout=subprocess.DEVNULL) as process:
            support.wait_attached(target.pid)
            before = programs()
            requests, cpu = measure(target, seconds)
            hits = hits_between(before, programs())
            support.interrupt(process)
            _, stderr = process.communicate(timeout=60)
            if process.returncode != 0:
                raise SystemExit(stderr)
        report = json.loads(Path(output.name).read_text())
    return Measured(1e6 * cpu / requests, requests, cpu, report, hits)


KINDS = [
    ("alone", lambda seconds: run_alone("handler.py", seconds)),
    ("tracemalloc, 1 frame", lambda seconds: run_alone("handler.py", seconds, "-X",
                                                       "tracemalloc=1")),
    ("tracemalloc, 25 frames", lambda seconds: run_alone("handler.py", seconds, "-X",
                                                         "tracemalloc=25")),
    ("pyleakd, exact", lambda seconds: run_exact("handler.py", seconds)),
]


def print_table(results):
    alone = statistics.median(run.microseconds for run in results["alone"])
    print(f"{'JSON handler':<24}{'µs a request':>14}{'range':>20}{'times':>8}")
    for name, runs in results.items():
        values = [run.microseconds for run in runs]
        spread = f"{min(values):.1f} – {max(values):.1f}"
        median = statistics.median(values)
        print(f"{name:<24}{median:>14.1f}{spread:>20}{median / alone:>8.1f}")


def print_hits(results):
    """Nanoseconds a hit by program, and the trap: what the target lost beyond the programs."""
    alone = statistics.median(run.microseconds for run in results["alone"])
    totals = {}
    lost_ns = program_ns = hits = 0
    for run in results["pyleakd, exact"]:
        for name, (runs, nanoseconds) in run.hits.items():
            total = totals.setdefault(name, [0, 0])
            total[0] += runs
            total[1] += nanoseconds
            hits += runs
            program_ns += nanoseconds
        lost_ns += (run.microseconds - alone) * 1000 * run.requests
    print(f"\n{'program':<24}{'hits':>14}{'ns a hit':>10}")
    for name, (runs, nanoseconds) in sorted(totals.items(), key=lambda item: -item[1][0]):
        print(f"{name:<24}{runs:>14,}{nanoseconds / runs:>10.0f}")
    if hits:
        print(f"{'all':<24}{hits:>14,}{program_ns / hits:>10.0f}"
              f"   and the trap {(lost_ns - program_ns) / hits:.0f} ns a hit, "
              f"{100 * (lost_ns - program_ns) / lost_ns:.0f} % of what the target lost")


def print_rate(seconds):
    run = run_exact("flood.py", seconds)
    session = run.report["session"]
    rate = session["events"] / session["duration_seconds"]
    print(f"\nflood: {rate:,.0f} events a second, {session['events']:,} events, "
          f"{session['events_lost']:,} lost, coverage {session['coverage_ratio']}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    before = STATISTICS.read_text()
    STATISTICS.write_text("1")
    try:
        results = {name: [] for name, _ in KINDS}
        for _ in range(options.rounds):
            for name, kind in KINDS:
                results[name].append(kind(options.seconds))
        print_table(results)
        print_hits(results)
        print_rate(options.seconds)
    finally:
        STATISTICS.write_text(before)


main()
