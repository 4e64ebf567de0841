# SPDX-License-Identifier: MIT OR GPL-2.0
"""What the exact mode costs a target, beside tracemalloc and an empty program on the same sites.

    exact.py [--rounds N] [--seconds S] [--rate-seconds S]          (as root)

The kinds of run take turns, so that a machine that gets slower meets all of them; medians and
ranges are over the rounds. Time is the target's CPU time, in which traps and programs are, and
other load on the machine mostly is not. The kernel's statistics of BPF programs cost time of
their own: they are on in runs apart, whose times are not used.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import select
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
CAPTURE = support.PYLEAKD.parent / "bench" / "capture"
STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
# Frames that are called before the handler: none, and as many as a web framework has.
DEPTHS = (0, 20)
EVENTS = (("an allocation", "on_alloc"), ("a free", "on_free"), ("a creation", "on_create"))
# On events of the whole host, not on hits of the target's.
HOST_PROGRAMS = {"on_sys_exit", "on_fork", "on_exec", "on_exit", "on_mmap", "on_munmap",
                 "on_mremap", "on_brk", "on_brk_enter"}


def programs_of(process):
    """name → (runs, nanoseconds) of the BPF programs that this process has loaded."""
    ids = set()
    for entry in Path(f"/proc/{process.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            ids.update(re.findall(r"^prog_id:\s*(\d+)", entry.read_text(), re.MULTILINE))
    found = {}
    for number in ids:
        output = subprocess.run(["bpftool", "-j", "prog", "show", "id", number],
                                capture_output=True, text=True,
                                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}).stdout
        program = json.loads(output)
        if program.get("name") not in HOST_PROGRAMS:
            found[program["name"]] = (program.get("run_cnt", 0), program.get("run_time_ns", 0))
    return found


class Measured:
    """A stretch of a target's work, from one of its lines to another."""

    def __init__(self, target, seconds, look=None):
        target.read(0)  # what it has said meanwhile
        first = target.expect("requests", after=len(target.lines))
        before = look() if look else {}
        self.started = time.monotonic()
        time.sleep(max(seconds - 0.5, 0))
        target.read(0)
        last = target.expect("requests", after=len(target.lines))
        after = look() if look else {}
        self.elapsed = time.monotonic() - self.started
        self.requests = last["requests"] - first["requests"]
        self.microseconds = 1e6 * (last["cpu"] - first["cpu"]) / self.requests
        self.hits = {name: (runs - before.get(name, (0, 0))[0],
                            nanoseconds - before.get(name, (0, 0))[1])
                     for name, (runs, nanoseconds) in after.items()}
        self.report = None

    def hits_a_request(self):
        return sum(runs for runs, _ in self.hits.values()) / self.requests

    def nanoseconds(self, program):
        runs, nanoseconds = self.hits.get(program, (0, 0))
        return nanoseconds / runs if runs else float("nan")


@contextlib.contextmanager
def workload(name, *arguments, options=()):
    stock = support.interpreter("stock-3.11")
    python = support.Interpreter(f"{stock.name}\t{stock.command[0]}\t/\t{stock.elf}")
    python.command = stock.command + list(options)
    with support.Program(python, WORKLOADS, name, *arguments) as target:
        target.expect("requests")
        yield target


def run_alone(seconds, name, *arguments, options=()):
    with workload(name, *arguments, options=options) as target:
        return Measured(target, seconds)


def run_empty(seconds, name, *arguments, look=False):
    with workload(name, *arguments) as target:
        process = support.start([CAPTURE, "-e", "-p", target.pid, "-s", 600],
                                stdout=subprocess.PIPE)
        try:
            if not select.select([process.stdout], [], [], 20)[0]:
                raise SystemExit("bench/capture does not attach")
            return Measured(target, seconds, (lambda: programs_of(process)) if look else None)
        finally:
            support.stop(process)


def run_exact(seconds, name, *arguments, look=False, **variables):
    with workload(name, *arguments) as target, tempfile.NamedTemporaryFile() as output:
        with support.session("--pid", target.pid, "--mode", "exact", "--format", "json",
                             "--output", output.name, stdout=subprocess.DEVNULL,
                             env=support.environment(**variables)) as process:
            support.wait_attached(target.pid)
            own = support.cpu_seconds(process.pid)
            started = time.monotonic()
            measured = Measured(target, seconds, (lambda: programs_of(process)) if look else None)
            own = support.cpu_seconds(process.pid) - own
            measured.own_share = own / (time.monotonic() - started)
            support.interrupt(process)
            _, stderr = process.communicate(timeout=60)
            if process.returncode != 0:
                raise SystemExit(stderr)
        measured.report = json.loads(Path(output.name).read_text())
    return measured


def tracemalloc(frames):
    def run(seconds, *arguments):
        return run_alone(seconds, *arguments, options=("-X", f"tracemalloc={frames}"))
    return run


KINDS = {
    "alone": run_alone,
    "tracemalloc, 1 frame": tracemalloc(1),
    "tracemalloc, 25 frames": tracemalloc(25),
    "empty program, same sites": run_empty,
    "pyleakd, exact": run_exact,
}


def spread(values):
    return f"{min(values):.1f} – {max(values):.1f}"


def print_handler(depth, runs, hits):
    """Returns the trap's nanoseconds a hit."""
    median = {kind: statistics.median(run.microseconds for run in runs[kind]) for kind in KINDS}
    alone, empty, exact = (median[kind] for kind in
                           ("alone", "empty program, same sites", "pyleakd, exact"))
    print(f"\n{f'JSON handler below {depth} frames':<28}{'µs a request':>14}{'range':>20}"
          f"{'times':>8}")
    for kind in KINDS:
        values = [run.microseconds for run in runs[kind]]
        print(f"{kind:<28}{median[kind]:>14.1f}{spread(values):>20}"
              f"{median[kind] / alone:>8.1f}")
    print(f"{hits:.0f} hits a request: {1000 * (empty - alone) / hits:.0f} ns each with the empty "
          f"program, {1000 * (exact - alone) / hits:.0f} with ours; the trap is "
          f"{100 * (empty - alone) / (exact - alone):.0f} % of what the target loses")
    return 1000 * (empty - alone) / hits


def print_events(depth, trap, exact, empty):
    nothing = empty.nanoseconds("on_nothing")
    print(f"\n{f'ns below {depth} frames':<24}{'hits':>12}{'program':>9}"
          f"{'beyond the empty one':>22}{'with its trap':>15}{'share of the trap':>19}")
    for event, program in EVENTS:
        beyond = exact.nanoseconds(program) - nothing
        print(f"{event:<24}{exact.hits.get(program, (0, 0))[0]:>12,}"
              f"{exact.nanoseconds(program):>9.0f}{beyond:>22.0f}{trap + beyond:>15.0f}"
              f"{100 * trap / (trap + beyond):>17.0f} %")
    print(f"{'empty program':<24}{empty.hits.get('on_nothing', (0, 0))[0]:>12,}{nothing:>9.0f}"
          f"{0:>22}{trap:>15.0f}{100:>17} %")


def measure_handler(rounds, seconds):
    results = {depth: {kind: [] for kind in KINDS} for depth in DEPTHS}
    for _ in range(rounds):
        for depth in DEPTHS:
            for kind, run in KINDS.items():
                results[depth][kind].append(run(seconds, "handler.py", str(depth)))
    for depth in DEPTHS:
        with kernel_statistics():
            exact = run_exact(seconds, "handler.py", str(depth), look=True)
            empty = run_empty(seconds, "handler.py", str(depth), look=True)
        trap = print_handler(depth, results[depth], exact.hits_a_request())
        print_events(depth, trap, exact, empty)


def print_session(name, run):
    session = run.report["session"]
    print(f"{name}: {session['duration_seconds']:.1f} s, {session['events']:,} events, "
          f"{session['events_lost']:,} lost, coverage {session['coverage_ratio']}; pyleakd itself "
          f"took {100 * run.own_share:.0f} % of a processor")


def print_rate(seconds):
    """Events a second of the clock: as many as a target in an endless loop makes."""
    with kernel_statistics():
        counted = run_empty(2, "flood.py", look=True)
    hits = counted.hits_a_request()
    alone = run_alone(3, "flood.py")
    empty = run_empty(3, "flood.py")
    exact = run_exact(seconds, "flood.py")
    print(f"\n{'flood, one thread':<28}{'events a second':>16}")
    for name, run in (("alone (not seen)", alone), ("empty program, same sites", empty),
                      ("pyleakd, exact", exact)):
        print(f"{name:<28}{hits * run.requests / run.elapsed:>16,.0f}")
    print_session("the session", exact)
    print_session("another, with a ring of 64 KiB",
                  run_exact(3, "flood.py", PYLEAKD_RING_BYTES="65536"))


@contextlib.contextmanager
def kernel_statistics():
    before = STATISTICS.read_text()
    STATISTICS.write_text("1")
    try:
        yield
    finally:
        STATISTICS.write_text(before)


def print_machine(moment):
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{moment}: Linux {platform.release()}, {os.cpu_count()} processors, load {load}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate-seconds", type=float, default=12)
    options = parser.parse_args()
    print_machine("begun")
    measure_handler(options.rounds, options.seconds)
    print_rate(options.rate_seconds)
    print_machine("ended")


main()
