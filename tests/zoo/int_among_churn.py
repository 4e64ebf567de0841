# SPDX-License-Identifier: MIT OR GPL-2.0
"""Ints leak among ten times as many that come and go at other lines."""

import zoo

ZOO = {"verdict": "leak", "function": "leak", "rate": 500}


def leak(n):
    zoo.KEEP[n] = n + 1000000  # LEAK


def churn(n):
    total = n + 2000000
    other = total * 3
    return other - total > 10


zoo.main(globals())
