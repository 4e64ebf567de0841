#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR GPL-2.0
"""How complete the ledger is, on every interpreter at hand, as a Markdown table.

    bench/completeness.py            (as root; PYLEAKD=… for another build)

The workload and the books are those of tests/system/test_completeness.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "system"))

import support  # noqa: E402
from test_completeness import Run  # noqa: E402

COLUMNS = ("interpreter", "allocations", "births held", "deaths seen", "net seen / the pools'",
           "lost", "given out twice")


def row(python):
    run = Run(python)
    books, session = run.report["books"], run.report["session"]
    losses = {loss["reason"]: loss["count"] for loss in run.report["losses"]}
    return (repr(python), f"{books['seen_allocations']:,}",
            f"{100 * books['born_held_blocks'] / books['born_live_blocks']:.3f} % "
            f"of {books['born_live_blocks']:,}",
            f"{100 * books['held_live_blocks'] / books['held_checked_blocks']:.3f} % "
            f"of {books['held_checked_blocks']:,}",
            f"{books['seen_net_blocks']:,} / {books['pools_net_blocks']:,}",
            str(session["events_lost"]), str(losses.get("alloc_repeated", 0)))


def main():
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for python in support.interpreters():
        print("| " + " | ".join(row(python)) + " |", flush=True)


main()
