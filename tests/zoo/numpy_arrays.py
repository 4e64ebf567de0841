# SPDX-License-Identifier: MIT OR GPL-2.0
"""Arrays of numpy: their data come from the C library, past CPython's allocators."""

import zoo

ZOO = {"verdict": "leak", "function": "leak", "native_chunks": 1, "requires": "numpy"}

try:
    import numpy
except ImportError:
    numpy = None


def leak(n):
    zoo.KEEP[n] = numpy.zeros(1000)  # LEAK


def churn(n):
    array = numpy.zeros(1000)
    array[0] = n


zoo.main(globals())
