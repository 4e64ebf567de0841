# SPDX-License-Identifier: MIT OR GPL-2.0
"""Dicts leak among ten times as many that come and go at other lines."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}


def leak(n):
    zoo.KEEP[n] = {"id": n % 100, "name": None, "tags": ()}  # LEAK


def churn(n):
    record = {"id": n % 100, "name": None, "tags": ()}
    other = {"id": n % 50, "name": record["name"], "tags": ()}
    record["name"] = other["name"]


zoo.main(globals())
