# SPDX-License-Identifier: MIT OR GPL-2.0
"""A dict of constant size whose entries are replaced all the time."""

import zoo

ZOO = {"verdict": "stable"}

LATEST = {}


def leak(n):
    LATEST[n % 50] = {"reading": n * 0.5, "text": "reading %d" % n}


def churn(n):
    reading = {"reading": n * 0.5, "text": "reading %d" % n}
    reading.clear()


zoo.main(globals())
