# SPDX-License-Identifier: MIT OR GPL-2.0
"""A dict in a thread-local of a thread that lives on."""

import threading

import zoo

ZOO = {"verdict": "leak", "function": "leak", "thread": True}

LOCAL = threading.local()


def leak(n):
    LOCAL.__dict__["trace-%d" % n] = [n % 100]  # LEAK


def churn(n):
    trace = {"trace-%d" % n: [n % 100]}
    trace.clear()


zoo.main(globals())
