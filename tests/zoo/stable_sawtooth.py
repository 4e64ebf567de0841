# SPDX-License-Identifier: MIT OR GPL-2.0
"""Reference cycles that the collector takes away, again and again."""

import zoo

ZOO = {"verdict": "stable"}


def leak(n):
    node = {"self": None, "payload": [n % 100, None]}
    node["self"] = node


def churn(n):
    node = {"self": None, "payload": [n % 100, None]}
    node["payload"] = n % 50


zoo.main(globals())
