# SPDX-License-Identifier: MIT OR GPL-2.0
"""An index whose lists only get longer."""

import collections

import zoo

ZOO = {"verdict": "leak", "function": "leak"}

INDEX = collections.defaultdict(list)


def leak(n):
    INDEX[n % 50].append("document %d" % n)  # LEAK


def churn(n):
    index = collections.defaultdict(list)
    index[n % 50].append("document %d" % n)


zoo.main(globals())
