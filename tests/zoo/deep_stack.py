# SPDX-License-Identifier: MIT OR GPL-2.0
"""The leak is at the bottom of a deep recursion, as in a parser or a template."""

import zoo

ZOO = {"verdict": "leak", "function": "descend"}


def descend(n, depth):
    if depth:
        return descend(n, depth - 1)
    zoo.KEEP[n] = {"node": n % 100, "children": [None, None]}  # LEAK


def leak(n):
    descend(n, 60)


def truth(n):
    descend(n, 0)  # up to 3.10 a recursion leaves frames behind for the next one


def churn(n):
    node = {"node": n % 100, "children": [None, None]}
    node["node"] = None


zoo.main(globals())
