# SPDX-License-Identifier: MIT OR GPL-2.0
"""One list that grows for ever: its items move from pymalloc to the C library."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}

SAMPLES = []


def leak(n):
    SAMPLES.extend((n % 100, None, True, False, n % 50, None, True, False))  # LEAK


def churn(n):
    samples = [n % 100] * 70
    samples.extend((None, True, False))


zoo.main(globals())
