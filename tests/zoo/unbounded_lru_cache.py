# SPDX-License-Identifier: MIT OR GPL-2.0
"""functools.lru_cache(maxsize=None) on a function of an ever new argument."""

import functools

import zoo

ZOO = {"verdict": "leak", "function": "render"}


@functools.lru_cache(maxsize=None)
def render(page):
    return ("<p>page %d</p>" % page) * 100  # LEAK


def leak(n):
    render(n)


def truth(n):
    zoo.KEEP[n] = render.__wrapped__(n)


def churn(n):
    render.__wrapped__(n)


zoo.main(globals())
