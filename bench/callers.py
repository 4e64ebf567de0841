#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR GPL-2.0
"""What the sites behind allocators' calls buy in the sampled mode, where a build inlines nothing.

    callers.py [--python NAME] [--budget PCT] [--seconds S] [--rate CALLS] [--rounds N]
               [--service NAME] [SHAPE...]                                       (as root)

Shapes of the zoo leak inside a service that allocates as fast as it can, with and without these
sites in turn (PYLEAKD_CALLERS): the seconds until the marked line stood first in three looks in
a row, a look a second, whatever the verdict; and in how many looks another line stood first.
"""

import argparse
import os
import statistics

import harness
import support

SHAPES = ["unfinished_generator", "exception_with_traceback", "bound_methods", "closure",
          "dict_among_churn", "list_among_churn", "tuple_among_churn", "float_among_churn"]
LOOKS = 3
SETTLE_SECONDS = 1


def look(shape, options):
    """(seconds or None, looks at another line, looks)"""
    marks, first, wrong, looks = harness.Marks(shape), [], 0, 0
    with harness.Service(options.service, f"{shape}={options.rate}") as target:
        with harness.LiveView(target.pids, options.budget) as view:
            for seconds, screen in view.screens(options.seconds):
                target.program.read(0)
                site = harness.first_site(screen)
                looks += 1
                named = bool(site) and marks.named(site[1])
                wrong += bool(site) and not named
                first = [*first, seconds] if named else []
                if len(first) == LOOKS:
                    return first[0], wrong, looks
    return None, wrong, looks


def told(values):
    """Of those that never named it, as if just after the end."""
    found = [value for value in values if value is not None]
    if len(found) * 2 <= len(values):
        return f"not in {len(values) - len(found)} of {len(values)}"
    median = statistics.median([float("inf") if value is None else value for value in values])
    missed = f", not in {len(values) - len(found)}" if len(found) < len(values) else ""
    return f"{median:.0f} s{missed}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default="pyenv-3.11")
    parser.add_argument("--budget", default="1")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--service", default="json")
    parser.add_argument("shapes", nargs="*", default=SHAPES)
    options = parser.parse_args()
    harness.PYTHON = support.interpreter(options.python).command[-1]
    print(f"{options.python}, {options.service}, {options.rate:g} calls/s, "
          f"budget {options.budget} %, load average {os.getloadavg()[0]:.1f}")
    print("| shape | with | looks at another line | without | looks at another line |")
    print("|---|---|---|---|---|")
    for shape in options.shapes:
        rows = {False: [], True: []}
        for number in range(2 * options.rounds):
            without = number % 2 == 1
            os.environ.pop("PYLEAKD_CALLERS", None)
            if not without:
                os.environ["PYLEAKD_CALLERS"] = "1"
            rows[without].append(look(shape, options))
        cells = []
        for without in (False, True):
            seconds, wrong, looks = zip(*rows[without])
            cells += [told(seconds), f"{sum(wrong)} of {sum(looks)}"]
        print(f"| {shape} | {' | '.join(cells)} |", flush=True)
    print(f"load average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
