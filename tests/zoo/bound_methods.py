# SPDX-License-Identifier: MIT OR GPL-2.0
"""A list of callbacks; each keeps the listener that it is bound to."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}


class Listener:
    def notify(self):
        pass


CALLBACKS = []


def leak(n):
    CALLBACKS.append(Listener().notify)  # LEAK


def churn(n):
    callback = Listener().notify
    callback()


zoo.main(globals())
