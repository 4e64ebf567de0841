# SPDX-License-Identifier: MIT OR GPL-2.0
"""A counter for every path that was ever asked for."""

import collections

import zoo

ZOO = {"verdict": "leak", "function": "leak"}

HITS = collections.Counter()


def leak(n):
    HITS["/user/%d/profile" % n] = n % 100  # LEAK


def churn(n):
    hits = {"/user/%d/profile" % n: n % 100}
    hits.clear()


zoo.main(globals())
