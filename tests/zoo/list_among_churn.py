# SPDX-License-Identifier: MIT OR GPL-2.0
"""Lists leak among ten times as many that come and go at other lines."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}


def leak(n):
    zoo.KEEP[n] = [n % 100, None, True, False]  # LEAK


def churn(n):
    row = [n % 100, None, True, False]
    other = [n % 50, row[1], True, False]
    row[1] = other[1]


zoo.main(globals())
