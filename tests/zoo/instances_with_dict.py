# SPDX-License-Identifier: MIT OR GPL-2.0
"""Instances of an ordinary class, with more attributes than others of it have."""

import zoo

ZOO = {"verdict": "leak", "function": "leak", "match": "stack"}


class Session:
    def __init__(self, user):
        self.user = user
        self.pages = []
        self.address = None


def leak(n):
    zoo.KEEP[n] = Session(n % 100)  # LEAK


def churn(n):
    session = Session(n % 100)
    session.address = "here"


zoo.main(globals())
