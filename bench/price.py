# SPDX-License-Identifier: MIT OR GPL-2.0
"""What the sampled mode costs its targets and their neighbours: five services, pairs of runs.

    price.py [--scheme alternate|beside] [--pairs N] [--seconds S] [--budget PCT]
             [--services json,numpy,echo,sqlite,flask,fork] [--others N]           (as root)

alternate: one process; it works S seconds alone and S seconds under a session of its own, in
    turns. A session may spend its whole minute's budget at once: below 60 seconds this shows more
    than the budget.
beside: two of each service, one of them under one session all the time, on a processor each, that
    they exchange in the middle of each pair. Load of the machine's meets both; a pair takes S
    seconds for both, and all of them together are a long session. The Flask service and the
    bystander's forks are always measured in turns.

"CPU" is the target's user and system time a request, in which traps and programs are; "wall" is
requests a second, in which waiting is too, and whatever else runs on the machine. "its time" is the
loss of CPU times the share of the time in which the target ran at all: what the budget means.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import time

import harness
import support



class Stretch:
    """What services did in the time between two of their lines."""

    def __init__(self, target):
        self.target = target
        self.first = target.progress()

    def end(self):
        requests, cpu, now = (last - first for last, first in
                              zip(self.target.progress(), self.first))
        return {"cpu": cpu / requests, "wall": now / requests, "requests": requests,
                "cpu_seconds": cpu, "seconds": now, "share": cpu / now}


def together(parts):
    requests = sum(part["requests"] for part in parts)
    return {"cpu": sum(part["cpu_seconds"] for part in parts) / requests,
            "wall": sum(part["seconds"] for part in parts) / requests,
            "share": sum(part["cpu_seconds"] for part in parts) /
            sum(part["seconds"] for part in parts)}


def loss(plain, traced, key):
    """Percent of the work that is lost."""
    return 100 * (1 - plain[key] / traced[key])


def pin(targets):
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) >= len(targets):
        for target, processor in zip(targets, processors):
            os.sched_setaffinity(target.pids[0], {processor})


def session_of(target, options):
    return harness.Session(target.pids, options.budget,
                           more=["--no-probes"] if options.no_probes else [])


def measure_beside(name, options):
    """Pairs (plain, traced); memory of both before, under and after the session, KiB."""
    with harness.Service(name) as plain, harness.Service(name) as traced:
        targets = (plain, traced)
        before = [harness.rss_anon_kib(target.pids) for target in targets]
        pairs = []
        with session_of(traced, options) as session:
            for _ in range(options.pairs):
                halves = []
                for order in (targets, targets[::-1]):
                    pin(order)
                    stretches = [Stretch(target) for target in targets]
                    time.sleep(max(options.seconds / 2 - 1, 0.1))
                    halves.append([stretch.end() for stretch in stretches])
                pairs.append([together(parts) for parts in zip(*halves)])
            under = [harness.rss_anon_kib(target.pids) for target in targets]
            session.report = session.finish()[0]
        after = [harness.rss_anon_kib(target.pids) for target in targets]
    memory = [(two[1] - one[1]) - (two[0] - one[0]) for one, two in ((before, under),
                                                                    (before, after))]
    return pairs, memory, [session]


def measure_alternate(name, options):
    with harness.Service(name) as target:
        before = harness.rss_anon_kib(target.pids)
        pairs, sessions, under = [], [], 0
        for number in range(options.pairs):
            pair = [None, None]
            for traced in ((False, True), (True, False))[number % 2]:
                with contextlib.ExitStack() as stack:
                    if traced:
                        session = stack.enter_context(session_of(target, options))
                    stretch = Stretch(target)
                    time.sleep(options.seconds)
                    pair[traced] = stretch.end()
                    if traced:
                        under = max(under, harness.rss_anon_kib(target.pids))
                        session.report = session.finish()[0]
                        sessions.append(session)
            pairs.append(pair)
        after = harness.rss_anon_kib(target.pids)
    return pairs, [under - before, after - before], sessions


def print_sessions(sessions):
    ratio = [100 * session.report["session"]["overhead_ratio"] for session in sessions]
    windows = sum(session.report["session"].get("windows", 0) for session in sessions)
    lost = sum(session.report["session"]["events_lost"] for session in sessions)
    own = sum(session.cpu for session in sessions) / sum(session.seconds for session in sessions)
    print(f"        by its own books {harness.spread(ratio)} %; {windows} windows, {lost} records "
          f"lost; pyleakd took {100 * own:.1f} % of a processor, "
          f"{max(session.rss_kib for session in sessions) / 1024:.0f} MiB resident", flush=True)


def print_losses(name, key, pairs):
    plain, traced = (1e6 * statistics.median(pair[side][key] for pair in pairs) for side in (0, 1))
    losses = [loss(*pair, key) for pair in pairs]
    print(f"{name:<8}{key:<6}{plain:>10.1f}{traced:>10.1f}{harness.spread(losses):>26}", flush=True)


def print_share(pairs):
    """The budget is one of time: a target that gets half of a processor loses twice of its CPU."""
    shares = [100 * pair[1]["share"] for pair in pairs]
    delays = [loss(*pair, "cpu") * pair[1]["share"] for pair in pairs]
    print(f"        the target ran {harness.spread(shares, '{:.0f}')} % of the time: "
          f"{harness.spread(delays)} % of its time went")


def print_service(name, options):
    measure = measure_beside if options.scheme == "beside" else measure_alternate
    pairs, memory, sessions = measure(name, options)
    for key in ("cpu", "wall"):
        print_losses(name, key, pairs)
    print_share(pairs)
    print(f"        RssAnon {memory[0]:+d} KiB under the session, {memory[1]:+d} after it")
    print_sessions(sessions)


# --- Flask ---

def measure_flask(target, seconds):
    cpu = target.cpu()
    told = target.load(seconds)
    told["cpu"] = (target.cpu() - cpu) / told["requests"]
    told["wall"] = 1 / told["rate"]
    told["share"] = told["cpu"] * told["rate"] / len(target.pids)
    return told


def flask_pairs(target, options):
    pairs, sessions, under = [], [], 0
    for number in range(options.pairs):
        pair = [None, None]
        for traced in ((False, True), (True, False))[number % 2]:
            if not traced:
                pair[0] = measure_flask(target, options.seconds)
                continue
            with session_of(target, options) as session:
                pair[1] = measure_flask(target, options.seconds)
                under = max(under, harness.rss_anon_kib(target.pids))
                reports = session.finish()
                session.report = max(reports, key=lambda one: one["session"]["overhead_ratio"])
                sessions.append(session)
        pairs.append(pair)
    return pairs, sessions, under


def print_flask(options):
    with harness.Flask() as target:
        target.load(5)
        before = harness.rss_anon_kib(target.pids)
        pairs, sessions, under = flask_pairs(target, options)
        after = harness.rss_anon_kib(target.pids)
    for key in ("cpu", "wall"):
        print_losses("flask", key, pairs)
    print_share(pairs)
    for key in ("p50", "p99", "max"):
        plain, traced = ([1e3 * pair[side][key] for pair in pairs] for side in (0, 1))
        more = [b - a for a, b in zip(plain, traced)]
        print(f"        latency, ms: {key:<4} plain {harness.spread(plain)}, traced "
              f"{harness.spread(traced)}, a pair {harness.spread(more, '{:+.2f}')}")
    print(f"        RssAnon of both workers {under - before:+d} KiB at most under a session, "
          f"{after - before:+d} in the end")
    print_sessions(sessions)


# --- a bystander's forks ---

def forks(seconds):
    output = subprocess.run([harness.PYTHON, harness.WORKLOADS / "bystander.py", str(seconds)],
                            capture_output=True, text=True, check=True,
                            env=support.environment()).stdout
    return json.loads(output)


def print_forks(options):
    with contextlib.ExitStack() as stack:
        for _ in range(options.others):
            other = support.start([harness.PYTHON, "-c", "import sys; sys.stdin.read()"],
                                  stdin=subprocess.PIPE)
            stack.callback(support.stop, other)
        target = stack.enter_context(harness.Service("json"))
        pairs = []
        for number in range(options.pairs):
            pair = [None, None]
            for traced in ((False, True), (True, False))[number % 2]:
                with contextlib.ExitStack() as inner:
                    if traced:
                        inner.enter_context(session_of(target, options))
                    pair[traced] = forks(options.seconds)
            pairs.append(pair)
    for share, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1, "max")):
        plain, traced = ([harness.percentile(pair[side], share) / 1e3 for pair in pairs]
                         for side in (0, 1))
        more = [b - a for a, b in zip(plain, traced)]
        print(f"{'fork':<8}{name:<6}ms: plain {harness.spread(plain)}, traced "
              f"{harness.spread(traced)}, a pair {harness.spread(more, '{:+.3f}')}")
    print(f"        of a bystander, with {options.others} other Pythons; "
          f"{sum(len(one) for pair in pairs for one in pair)} forks", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scheme", choices=("alternate", "beside"), default="alternate")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--budget", default="1")
    parser.add_argument("--no-probes", action="store_true",
                        help="control: sessions that only watch")
    parser.add_argument("--services", default="json,numpy,echo,sqlite,flask,fork")
    parser.add_argument("--others", type=int, default=100)
    options = parser.parse_args()
    harness.begin()
    print(f"{'service':<14}{'plain, µs':>10}{'traced':>10}{'loss, % (pairs: range)':>26}")
    for name in options.services.split(","):
        if name == "flask":
            print_flask(options)
        elif name == "fork":
            print_forks(options)
        else:
            print_service(name, options)
    harness.end()


main()
