# SPDX-License-Identifier: MIT OR GPL-2.0
"""Warms up for a second and a half, then stays as it is."""

import zoo

ZOO = {"verdict": "stable"}


def leak(n):
    if n < 150:
        zoo.KEEP[n] = {"table": n % 100, "rows": [None]}


def churn(n):
    row = {"table": n % 100, "rows": [None]}
    row["rows"] = None


zoo.main(globals())
