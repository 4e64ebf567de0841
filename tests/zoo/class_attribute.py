# SPDX-License-Identifier: MIT OR GPL-2.0
"""A list that hangs on a class and is shared by all instances."""

import zoo

ZOO = {"verdict": "leak", "function": "record"}


class Handler:
    history = []

    def record(self, n):
        self.history.append(("event", [None, n % 50]))  # LEAK


HANDLER = Handler()


def leak(n):
    HANDLER.record(n)


def churn(n):
    history = []
    history.append(("event", [None, n % 50]))


zoo.main(globals())
