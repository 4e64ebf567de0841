# SPDX-License-Identifier: MIT OR GPL-2.0
"""A pool of buffers that empties and fills again."""

import zoo

ZOO = {"verdict": "stable"}

POOL = []


def leak(n):
    if n % 100 < 50:
        POOL.append(bytearray(700))
    elif POOL:
        POOL.pop()


def churn(n):
    buffer = bytearray(700)
    buffer[0] = n % 100


zoo.main(globals())
