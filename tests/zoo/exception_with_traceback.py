# SPDX-License-Identifier: MIT OR GPL-2.0
"""Exceptions kept for later, each with its traceback."""

import zoo

ZOO = {"verdict": "leak", "function": "worker"}


def worker():
    n = yield
    while True:
        try:
            raise ValueError("request failed", [n % 100, None])  # LEAK
        except ValueError as error:
            zoo.KEEP[n] = error
        n = yield


WORKER = worker()
next(WORKER)


def leak(n):
    WORKER.send(n)


def churn(n):
    try:
        raise ValueError("request failed", [n % 100, None])
    except ValueError:
        pass


zoo.main(globals())
