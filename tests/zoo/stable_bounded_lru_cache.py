# SPDX-License-Identifier: MIT OR GPL-2.0
"""A bounded cache that has filled before anybody looks, and stays full."""

import functools

import zoo

ZOO = {"verdict": "stable"}


@functools.lru_cache(maxsize=50)
def render(page):
    return "<p>page %d</p>" % page * 20


def setup():
    for page in range(50):
        render(-page)


def leak(n):
    render(n)


def churn(n):
    render.__wrapped__(n)


zoo.main(globals())
