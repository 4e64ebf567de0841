# SPDX-License-Identifier: MIT OR GPL-2.0
"""A module-level list that every request appends to."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}

REQUESTS = []


def leak(n):
    REQUESTS.append([n % 100, None, "path"])  # LEAK


def churn(n):
    request = [n % 100, None, "path"]
    request.append(n % 50)


zoo.main(globals())
