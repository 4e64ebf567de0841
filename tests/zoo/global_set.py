# SPDX-License-Identifier: MIT OR GPL-2.0
"""A module-level set of everything ever seen."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}

SEEN = set()


def leak(n):
    SEEN.add("address-%d" % n)  # LEAK


def churn(n):
    seen = {"address-%d" % n, "other-%d" % n}
    seen.discard("address-0")


zoo.main(globals())
