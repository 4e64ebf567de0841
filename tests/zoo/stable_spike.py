# SPDX-License-Identifier: MIT OR GPL-2.0
"""One spike, given back after a moment."""

import zoo

ZOO = {"verdict": "stable"}

SPIKE = []


def leak(n):
    if n == 150:
        SPIKE.extend([{"row": row} for row in range(5000)])
    elif n == 250:
        SPIKE.clear()


def churn(n):
    row = {"row": n}
    row.clear()


zoo.main(globals())
