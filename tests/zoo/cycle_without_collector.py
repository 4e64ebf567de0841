# SPDX-License-Identifier: MIT OR GPL-2.0
"""Reference cycles in a program that has switched the collector off."""

import zoo

ZOO = {"verdict": "leak", "function": "leak", "gc": False}


def leak(n):
    node = [n % 100, None, None]; node[1] = node  # LEAK


def churn(n):
    node = [n % 100, None, None]
    node[1] = n % 50


zoo.main(globals())
