# SPDX-License-Identifier: MIT OR GPL-2.0
"""The last 50 events, in a deque with a maximal length."""

import collections

import zoo

ZOO = {"verdict": "stable"}

EVENTS = collections.deque(maxlen=50)


def leak(n):
    EVENTS.append({"event": "event %d" % n, "at": n * 0.5})


def churn(n):
    event = {"event": "event %d" % n, "at": n * 0.5}
    event.clear()


zoo.main(globals())
