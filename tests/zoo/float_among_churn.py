# SPDX-License-Identifier: MIT OR GPL-2.0
"""Floats leak among ten times as many that come and go at other lines."""

import zoo

ZOO = {"verdict": "leak", "function": "leak", "rate": 500}


def leak(n):
    zoo.KEEP[n] = n * 0.5  # LEAK


def churn(n):
    price = n * 0.25
    total = price + n * 1.5
    return total > 1e9


zoo.main(globals())
