# SPDX-License-Identifier: MIT OR GPL-2.0
"""Buffers that nobody gives back."""

import zoo

ZOO = {"verdict": "leak", "function": "leak"}


def leak(n):
    zoo.KEEP[n] = bytearray(1000)  # LEAK


def churn(n):
    buffer = bytearray(1000)
    buffer[0] = n % 100


zoo.main(globals())
