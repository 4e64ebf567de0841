# SPDX-License-Identifier: MIT OR GPL-2.0
"""Generators that were started and are never finished. A generator keeps its function too, which
is made by the line; from 3.11 on the generator itself is made in its own frame, called by the line.
"""

import itertools

import zoo

ZOO = {"verdict": "leak", "function": "<genexpr>", "function_before_311": "leak",
       "match": "stack"}

SOURCE = itertools.repeat(None)


def leak(n):
    zoo.KEEP[n] = (item for item in SOURCE)  # LEAK
    next(zoo.KEEP[n])


def churn(n):
    for _ in (item for item in SOURCE):
        break


zoo.main(globals())
