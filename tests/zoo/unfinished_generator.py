# SPDX-License-Identifier: MIT OR GPL-2.0
"""Generators that were started and are never finished. From 3.11 on a generator is made in its own
frame, before in the caller's."""

import itertools

import zoo

ZOO = {"verdict": "leak", "function": "<genexpr>", "function_before_311": "leak"}

SOURCE = itertools.repeat(None)


def leak(n):
    zoo.KEEP[n] = (item for item in SOURCE)  # LEAK
    next(zoo.KEEP[n])


def churn(n):
    for _ in (item for item in SOURCE):
        break


zoo.main(globals())
