# SPDX-License-Identifier: MIT OR GPL-2.0
"""The bodies of all requests, as bytes."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}


def leak(n):
    zoo.KEEP[n] = b"%d" % n * 60  # LEAK


def churn(n):
    body = b"%d" % n * 60
    return body[1:]


zoo.main(globals())
