# SPDX-License-Identifier: MIT OR GPL-2.0
"""Log lines that are collected and never written."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}

LINES = []


def leak(n):
    LINES.append("GET /item/%d 200 OK in %d ms, served from the cache" % (n, n % 100))  # LEAK


def churn(n):
    line = "GET /item/%d 200 OK in %d ms, served from the cache" % (n, n % 100)
    return line.upper()


zoo.main(globals())
