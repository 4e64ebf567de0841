# SPDX-License-Identifier: MIT OR GPL-2.0
"""A queue that nothing takes from."""

import collections

import zoo

ZOO = {"verdict": "leak", "function": "leak"}

QUEUE = collections.deque()


def leak(n):
    QUEUE.append("job %d" % n)  # LEAK


def churn(n):
    queue = collections.deque(("job %d" % n,))
    queue.popleft()


zoo.main(globals())
