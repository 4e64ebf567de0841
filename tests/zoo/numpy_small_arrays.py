# SPDX-License-Identifier: MIT OR GPL-2.0
"""Small arrays of numpy: their data and shapes come from a cache that other lines fill."""

import zoo

ZOO = {"verdict": "leak", "function": "leak", "native_chunks": 2, "requires": "numpy"}

try:
    import numpy
except ImportError:
    numpy = None


def leak(n):
    zoo.KEEP[n] = numpy.zeros(10)  # LEAK


def churn(n):
    array = numpy.zeros(10)
    array[2:4] = n


zoo.main(globals())
