# SPDX-License-Identifier: MIT OR GPL-2.0
"""A logger that gets another handler for each request. The logger's list grows in the library."""

import logging

import zoo

ZOO = {"verdict": "leak", "function": "leak"}


class RequestHandler(logging.Handler):
    __slots__ = ("records",)

    def __init__(self, records):
        self.records = records


LOGGER = logging.getLogger("requests")


def leak(n):
    LOGGER.addHandler(RequestHandler([None] * 30))  # LEAK


def truth(n):
    zoo.KEEP[n] = RequestHandler([None] * 30)


def churn(n):
    RequestHandler([None] * 30)


zoo.main(globals())
