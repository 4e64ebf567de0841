# SPDX-License-Identifier: MIT OR GPL-2.0
"""The sampled mode against what people would use instead, on one leaking JSON handler.

    against.py [--rounds N] [--seconds S] [--limit S] [--memray ROOT]        (as root)

A leak of 20 KB/s (the zoo's dict_among_churn). The ways take turns; times are CPU microseconds a
request, memory is what the target's RssAnon has beyond the plain run's, and what the watcher itself
has resident. Then, in runs of their own, whether and when each names the line: tracemalloc by
comparing a snapshot every five seconds with its first, pyleakd by its live view, memray by its file
when the run is over. memray runs in the root that --memray names (tools/memray.sh unpacks Debian
trixie's), with --trace-python-allocators; the Python there is another, so its row is compared with
a plain run of that Python in the same root. "Empty uprobes" are always-on uprobes at all sites with
a BPF program that returns at once: a bound for any bpftrace or bcc script on these sites.
"""

import argparse
import contextlib
import functools
import json
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import harness
import support

SHAPE = "dict_among_churn"
RATE = 20000
CAPTURE = support.PYLEAKD.parent / "bench" / "capture"
LEAKED = """
import collections, json, sys, memray
sizes = collections.Counter()
for record in memray.FileReader(sys.argv[1]).get_leaked_allocation_records(merge_threads=True):
    for frame in record.stack_trace(1) or [("", "?", 0)]:
        sizes[frame[1], frame[2]] += record.size
print(json.dumps([[*place, size] for place, size in sizes.most_common()]))
"""
WRITTEN = "tmp/memray.bin"  # in the root
ALONE, ALONE_IN_ROOT = "alone", "alone, 3.13 in the root"


class RootPython:
    """The Python of a root that tools/memray.sh has unpacked.

    memray reads /proc: it is mounted for the target only, in a mount namespace that ends with it.
    All these commands become the next by exec, so the process that is started is the target.
    """

    ENTER = 'mount --bind /proc "$0/proc" && exec chroot "$0" "$@"'

    def __init__(self, root):
        self.root = Path(root).resolve()
        self.command = ["unshare", "--mount", "sh", "-c", self.ENTER, str(self.root),
                        "/usr/bin/python3.13"]

    def place(self, directory):
        """Copies the workloads, and the zoo where they look for it."""
        top = support.ROOT
        for source in (Path(directory), support.ZOO):
            shutil.copytree(source, self.root / "tmp" / source.relative_to(top),
                            ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        return Path("/tmp") / Path(directory).relative_to(top)


class Way:
    """A way to look for the leak: how the target is started, and what looks at it."""

    def __init__(self, name, options=(), look=None, answer=None, root=None):
        self.name, self.options, self.look, self.answer = name, options, look, answer
        self.root = root
        self.baseline = ALONE_IN_ROOT if root else ALONE

    def service(self, leaks, **environment):
        interpreter = functools.partial(RootPython, self.root) if self.root else harness.stock
        return harness.Service("json", leaks, self.options, environment, interpreter)


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
    with way.service(leaks) as target:
        with (way.look or nobody)(target.pids[0]) as watcher:
            first = target.progress()
            time.sleep(seconds)
            last = target.progress()
            return {"cpu": 1e6 * (last[1] - first[1]) / (last[0] - first[0]),
                    "anon": harness.rss_anon_kib(target.pids), "own": resident_kib(watcher)}


# --- does it name the line? ---

def answer_of_tracemalloc(way, leaks, limit):
    marks = harness.Marks(SHAPE)
    with way.service(leaks, BENCH_SNAPSHOT_SECONDS="5") as target:
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
        with way.service(leaks) as target:
            time.sleep(2)
            found = harness.watch(target.pids, SHAPE, limit, budget, mode)
        wrong = f"; a wrong line first at {found.wrong} looks" if found.wrong else ""
        return (f"yes, {found.seconds:.0f} s" if found.seconds is not None else "no") + wrong
    return answer


def rank(lines):
    """Is the marked line the first of these [file, line, bytes]? If not, which?"""
    marks = harness.Marks(SHAPE)
    right = [place for place, (file, line, _) in enumerate(lines)
             if marks.first_frame({"file": file, "line": line})]
    if right and right[0] == 0:
        return "yes"
    file, line, size = lines[0]
    told = (f"number {right[0] + 1} of {len(lines)}, with {lines[right[0]][2] / 1000:.0f} KB"
            if right else "not there")
    return f"no: {Path(file).name}:{line} with {size / 1000:.0f} KB; the marked line is {told}"


def answer_of_memray(way, leaks, limit):
    seconds = min(limit, 20)
    with way.service(leaks):
        time.sleep(seconds)
    file = Path(way.root) / WRITTEN
    size = file.stat().st_size
    began = time.monotonic()
    output = subprocess.run([*RootPython(way.root).command, "-c", LEAKED, f"/{WRITTEN}"],
                            capture_output=True, text=True, env=support.environment())
    took = time.monotonic() - began
    file.unlink()
    if output.returncode != 0:
        return "no: " + output.stderr[-200:]
    lines = json.loads(output.stdout)
    return (f"{rank(lines)}, when the run is over; its file grew by {size / seconds / 1e6:.0f} "
            f"MB/s, reading it took {took:.0f} s for {seconds:.0f} s of run")


def ways(options):
    python = [
        Way(ALONE),
        Way("tracemalloc, 1 frame", ["-X", "tracemalloc=1"], answer=answer_of_tracemalloc),
        Way("tracemalloc, 25 frames", ["-X", "tracemalloc=25"], answer=answer_of_tracemalloc)]
    if options.memray:
        python += [
            Way(ALONE_IN_ROOT, root=options.memray),
            Way("memray, Python's too", [
                "-m", "memray", "run", "-q", "-f", "--trace-python-allocators",
                "-o", f"/{WRITTEN}"], answer=answer_of_memray, root=options.memray)]
    return python + [
        Way("empty uprobes, all sites", look=empty),
        Way("pyleakd, exact", look=exact, answer=answer_of_pyleakd(None, "exact")),
        Way("pyleakd, sampled 1 %", look=lambda pid: sampled(pid, "1"),
            answer=answer_of_pyleakd("1", "sampled")),
        Way("pyleakd, sampled 5 %", look=lambda pid: sampled(pid, "5"),
            answer=answer_of_pyleakd("5", "sampled"))]


def table(all_ways, runs, leaks, limit):
    def median(name, key):
        return statistics.median(one[key] for one in runs[name])
    print(f"{'':<26}{'µs a request (range)':>26}{'times':>7}{'target +MiB':>13}"
          f"{'watcher MiB':>13}  names the line", flush=True)
    for way in all_ways:
        cpu = harness.spread([one["cpu"] for one in runs[way.name]], "{:.1f}")
        times = median(way.name, "cpu") / median(way.baseline, "cpu")
        more = (median(way.name, "anon") - median(way.baseline, "anon")) / 1024
        named = way.answer(way, leaks, limit) if way.answer else "-"
        print(f"{way.name:<26}{cpu:>26}{times:>7.2f}{more:>13.1f}"
              f"{median(way.name, 'own') / 1024:>13.0f}  {named}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--limit", type=float, default=120)
    parser.add_argument("--memray", metavar="ROOT")
    options = parser.parse_args()
    if options.memray and not (Path(options.memray) / "usr/bin/python3.13").exists():
        parser.error("--memray takes the root that tools/memray.sh prints")
    harness.begin()
    leaks = f"{SHAPE}={RATE / harness.bytes_a_call(SHAPE)}"
    all_ways = ways(options)
    runs = {way.name: [] for way in all_ways}
    for _ in range(options.rounds):
        for way in all_ways:
            runs[way.name].append(run(way, leaks, options.seconds))
    table(all_ways, runs, leaks, options.limit)
    harness.end()


main()
