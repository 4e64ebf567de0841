# SPDX-License-Identifier: MIT OR GPL-2.0
"""A module-level dict with a key for each request."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}

SESSIONS = {}


def leak(n):
    SESSIONS["session-%d" % n] = (n % 100, None)  # LEAK


def churn(n):
    session = {"session-%d" % n: (n % 100, None)}
    session.clear()


zoo.main(globals())
