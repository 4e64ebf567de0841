# SPDX-License-Identifier: MIT OR GPL-2.0
"""Callbacks that close over their request. Up to 3.10 the cell is made before the frame is."""

import sys

import zoo

ZOO = {"verdict": "leak", "function": "leak"}


# On one line, because the cell belongs to the line of the def.
def leak(n): value = n % 100; zoo.KEEP[n] = lambda: value  # LEAK


def _leak_with_a_shared_cell():
    value = 0

    def leak_without_cell(n):
        zoo.KEEP[n] = lambda: value

    return leak_without_cell


truth = leak if sys.version_info >= (3, 11) else _leak_with_a_shared_cell()


def churn(n):
    callback = lambda: n
    callback()


zoo.main(globals())
