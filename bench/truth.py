# SPDX-License-Identifier: MIT OR GPL-2.0
"""Whether the sampled mode's figures are true: five leaks at once, and intervals held against it.

    truth.py [--seconds S] [--budget PCT] [--service NAME] [--repeat N] [--at-once N]
             [--shapes SHAPE,…] [--five | --coverage]                              (as root)

Five leaks of 2 to 50 KB/s are in one service: each found, called leak or growing, its growth within
a fifth of what it is? And for each shape alone: does the truth lie within the interval of the
outstanding bytes? The truth is the zoo's: the leaks' own pace over the session's duration.
"""

import argparse
import concurrent.futures
import time

import harness

FIVE = {"strings_kept": 2000, "tuple_among_churn": 5000, "dict_among_churn": 10000,
        "bytes_kept": 20000, "instances_with_dict": 50000}
SHAPES = ("dict_among_churn", "tuple_among_churn", "float_among_churn", "list_among_churn",
          "closure", "instances_with_dict", "strings_kept", "bytes_kept",
          "exception_with_traceback", "string_keyed_dict", "bound_methods", "slots_objects")
RATE = 20000
GROWTH_ERROR = 0.2
UNSURE_SECONDS = 0.5


class Sum:
    """What a report says of a shape: the sites with a marked line, added up."""

    def __init__(self, report, shape):
        marks = harness.Marks(shape)
        sites = [site for site in report["sites"]
                 if marks.named(site["stack"]) or any(map(marks.first_frame, site["stack"][:2]))]
        self.rank = next((number for number, site in enumerate(report["sites"], 1)
                          if site in sites), None)
        self.verdicts = {site["verdict"] for site in sites}
        self.bytes = sum(site["outstanding_bytes"] for site in sites)
        self.growth = sum(site["growth_bytes_per_second"] for site in sites)
        intervals = [site.get("outstanding_bytes_interval", [site["outstanding_bytes"]] * 2)
                     for site in sites]
        self.low, self.high = (sum(ends) for ends in zip(*intervals)) if intervals else (0, 0)

    def verdict(self):
        return next((word for word in ("leak", "growing", "warming", "stable")
                     if word in self.verdicts), "not found")


def observe(name, rates, sizes, options):
    """A session; the report, and what has leaked meanwhile by shape, at least and at most."""
    leaks = ",".join(f"{shape}={rate / sizes[shape]}" for shape, rate in rates.items())
    with harness.service(name, leaks) as target:
        if name == "flask":
            target.keep_loaded(int(options.seconds + 30))
        with harness.Session(target.pids[:1], options.budget) as session:
            time.sleep(options.seconds)
            report = session.finish()[0]
    seconds = report["session"]["duration_seconds"]
    return report, {shape: [rate * (seconds - UNSURE_SECONDS), rate * (seconds + UNSURE_SECONDS)]
                    for shape, rate in rates.items()}


def print_five(sizes, options):
    found = within = 0
    print(f"{'five at once':<24}{'KB/s':>6}{'said':>8}{'off':>7}{'rank':>6}  {'verdict':<10}"
          f"{'bytes, true':>12}{'said':>11}{'interval':>24}")
    for _ in range(options.repeat):
        report, truths = observe(options.service, FIVE, sizes, options)
        for shape, rate in FIVE.items():
            said = Sum(report, shape)
            off = said.growth / rate - 1
            found += said.verdict() in ("leak", "growing")
            within += abs(off) <= GROWTH_ERROR
            print(f"{shape:<24}{rate / 1000:>6.0f}{said.growth / 1000:>8.1f}{100 * off:>+6.0f}%"
                  f"{said.rank or '-':>6}  {said.verdict():<10}{truths[shape][0]:>12,.0f}"
                  f"{said.bytes:>11,.0f}{f'{said.low:,.0f} … {said.high:,.0f}':>24}", flush=True)
    print(f"found {found} of {5 * options.repeat}, growth within {100 * GROWTH_ERROR:.0f} % in "
          f"{within}", flush=True)


def print_coverage(sizes, options):
    shapes = options.shapes.split(",")
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        jobs = [(shape, pool.submit(observe, options.service, {shape: RATE}, sizes, options))
                for _ in range(options.repeat) for shape in shapes]
        rows = [(shape, *job.result()) for shape, job in jobs]
    covered = 0
    print(f"{'alone':<24}{'verdict':<10}{'bytes, true':>12}{'said':>12}{'ratio':>8}"
          f"{'interval':>26}")
    for shape, report, truths in rows:
        said, (low, high) = Sum(report, shape), truths[shape]
        holds = said.low <= high and low <= said.high
        covered += holds
        print(f"{shape:<24}{said.verdict():<10}{low:>12,.0f}{said.bytes:>12,.0f}"
              f"{said.bytes / low:>8.2f}{f'{said.low:,.0f} … {said.high:,.0f}':>26}"
              f"{'' if holds else '  not'}")
    print(f"the truth is in the interval in {covered} of {len(rows)}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--budget", default="1")
    parser.add_argument("--service", default="json", choices=harness.SERVICES)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--five", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    options = parser.parse_args()
    harness.begin()
    both = options.five == options.coverage
    shapes = {*FIVE, *options.shapes.split(",")}
    sizes = {shape: harness.bytes_a_call(shape) for shape in sorted(shapes)}
    if options.five or both:
        print_five(sizes, options)
    if options.coverage or both:
        print_coverage(sizes, options)
    harness.end()


main()
