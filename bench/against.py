# SPDX-License-Identifier: MIT OR GPL-2.0
"""The sampled mode against what people would use instead, on one leaking JSON handler.

    against.py [--rounds N] [--seconds S] [--limit S] [--memray DIRECTORY]        (as root)

A leak of 20 KB/s (the zoo's dict_among_churn). The ways take turns; times are CPU microseconds a
request, memory is what the target's RssAnon has beyond the plain run's, and what the watcher itself
has resident. Then, in runs of their own, whether and when each names the line: tracemalloc by
comparing a snapshot every five seconds with its first, pyleakd by its live view, memray by its file
when the run is over. memray runs where --memray names a directory that has it (pip install
--target), with --trace-python-allocators. "Empty uprobes" are always-on uprobes at all sites with a
BPF program that returns at once: a bound for any bpftrace or bcc script on these sites.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import harness
import support

SHAPE = "dict_among_churn"
RATE = 20000
CAPTURE = support.PYLEAKD.parent / "bench" / "capture"
LEAKED = """
import json, sys, memray
records = memray.FileReader(sys.argv[1]).get_leaked_allocation_records(merge_threads=True)
top = max(records, key=lambda record: record.size)
frame = top.stack_trace(1)[0]
print(json.dumps([frame[1], frame[2]]))
"""


class Way:
    """A way to look for the leak: how the target is started, and what looks at it."""

    def __init__(self, name, options=(), environment=None, look=None, answer=None):
        self.name, self.options = name, options
        self.environment = environment or {}
        self.look, self.answer = look, answer


@contextlib.contextmanager
def sampled(pid, budget):
    with harness.Session([pid], budget) as session:
        yield session.process.pid


@contextlib.contextmanager
def exact(pid):
    with harness.Session([pid], mode="exact") as session:
        support.wait_attached(pid)
        yield session.process.pid


@contextlib.contextmanager
def empty(pid):
    process = support.start([CAPTURE, "-e", "-p", pid, "-s", 3600], stdout=subprocess.DEVNULL)
    try:
        support.wait_attached(pid)
        yield process.pid
    finally:
        support.stop(process)


@contextlib.contextmanager
def nobody(_):
    yield None


def resident_kib(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 if pid else 0


def run(way, leaks, seconds):
    """CPU microseconds a request, RssAnon at the end, the watcher's resident size (KiB)."""
    with harness.Service("json", leaks, way.options, way.environment) as target:
        with (way.look or nobody)(target.pids[0]) as watcher:
            first = target.progress()
            time.sleep(seconds)
            last = target.progress()
            return {"cpu": 1e6 * (last[1] - first[1]) / (last[0] - first[0]),
                    "anon": harness.rss_anon_kib(target.pids), "own": resident_kib(watcher)}


# --- does it name the line? ---

def answer_of_tracemalloc(way, leaks, limit):
    marks = harness.Marks(SHAPE)
    environment = {**way.environment, "BENCH_SNAPSHOT_SECONDS": "5"}
    with harness.Service("json", leaks, way.options, environment) as target:
        end = time.monotonic() + limit
        looks = []
        while time.monotonic() < end and len(looks) < 6:
            target.program.read(0.5)
            looks = [line for line in target.program.lines if "top" in line]
            for line in looks:
                if marks.first_frame({"file": line["top"][0], "line": line["top"][1]}):
                    return (f"yes, {line['at']:.0f} s; a snapshot stops the target for "
                            f"{line['took']:.1f} s")
        return f"no: {[line['top'] for line in looks]}"


def answer_of_pyleakd(budget, mode):
    def answer(way, leaks, limit):
        with harness.Service("json", leaks) as target:
            time.sleep(2)
            found = harness.watch(target.pids, SHAPE, limit, budget, mode)
        wrong = f"; a wrong line first at {found.wrong} looks" if found.wrong else ""
        return (f"yes, {found.seconds:.0f} s" if found.seconds is not None else "no") + wrong
    return answer


def answer_of_memray(way, leaks, limit):
    seconds = min(limit, 20)
    with harness.Service("json", leaks, way.options, way.environment):
        time.sleep(seconds)
    file = way.options[-1]
    size = os.path.getsize(file)
    output = subprocess.run([harness.PYTHON, "-c", LEAKED, file], capture_output=True, text=True,
                            env=support.environment(**way.environment))
    if output.returncode != 0:
        return "no: " + output.stderr[-200:]
    name, line = json.loads(output.stdout)
    right = harness.Marks(SHAPE).first_frame({"file": name, "line": line})
    return (f"{'yes' if right else f'no: {name}:{line}'}, when the run is over; its file grew by "
            f"{size / seconds / 1e6:.0f} MB/s")


def ways(options, directory):
    python = [
        Way("alone"),
        Way("tracemalloc, 1 frame", ["-X", "tracemalloc=1"], answer=answer_of_tracemalloc),
        Way("tracemalloc, 25 frames", ["-X", "tracemalloc=25"], answer=answer_of_tracemalloc)]
    if options.memray:
        python.append(Way("memray, Python's too", [
            "-m", "memray", "run", "-q", "-f", "--trace-python-allocators", "-o",
            f"{directory}/memray.bin"],
            {"PYTHONPATH": options.memray}, answer=answer_of_memray))
    return python + [
        Way("empty uprobes, all sites", look=empty),
        Way("pyleakd, exact", look=exact, answer=answer_of_pyleakd(None, "exact")),
        Way("pyleakd, sampled 1 %", look=lambda pid: sampled(pid, "1"),
            answer=answer_of_pyleakd("1", "sampled")),
        Way("pyleakd, sampled 5 %", look=lambda pid: sampled(pid, "5"),
            answer=answer_of_pyleakd("5", "sampled"))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--limit", type=float, default=120)
    parser.add_argument("--memray")
    options = parser.parse_args()
    harness.begin()
    leaks = f"{SHAPE}={RATE / harness.bytes_a_call(SHAPE)}"
    with tempfile.TemporaryDirectory() as directory:
        all_ways = ways(options, directory)
        runs = {way.name: [] for way in all_ways}
        for _ in range(options.rounds):
            for way in all_ways:
                runs[way.name].append(run(way, leaks, options.seconds))
        plain = {key: statistics.median(one[key] for one in runs["alone"])
                 for key in ("cpu", "anon")}
        print(f"{'':<26}{'µs a request (range)':>26}{'times':>7}{'target +MiB':>13}"
              f"{'watcher MiB':>13}  names the line", flush=True)
        for way in all_ways:
            own = runs[way.name]
            cpu = [one["cpu"] for one in own]
            more, watcher = (statistics.median(one[key] for one in own) for key in ("anon", "own"))
            named = way.answer(way, leaks, options.limit) if way.answer else "-"
            print(f"{way.name:<26}{harness.spread(cpu, '{:.1f}'):>26}"
                  f"{statistics.median(cpu) / plain['cpu']:>7.2f}"
                  f"{(more - plain['anon']) / 1024:>13.1f}{watcher / 1024:>13.0f}  {named}",
                  flush=True)
    harness.end()


main()
