# SPDX-License-Identifier: MIT OR GPL-2.0
"""Tuples leak among ten times as many that come and go at other lines."""

import zoo

ZOO = {"verdict": "leak", "function": "leak", "rate": 250}


def leak(n):
    zoo.KEEP[n] = (n % 100, None, n % 50)  # LEAK


def churn(n):
    row = (n % 100, None, n % 50)
    other = (n % 50, row[1], n % 100)
    return row[0] + other[0]


zoo.main(globals())
