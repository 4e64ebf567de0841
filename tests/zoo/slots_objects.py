# SPDX-License-Identifier: MIT OR GPL-2.0
"""Instances of a class with __slots__."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}


class Point:
    __slots__ = ("x", "y", "label", "parent")

    def __init__(self, x, y):
        self.x = x
        self.y = y


def leak(n):
    zoo.KEEP[n] = Point(n % 100, None)  # LEAK


def churn(n):
    point = Point(n % 100, None)
    point.label = "x"


zoo.main(globals())
