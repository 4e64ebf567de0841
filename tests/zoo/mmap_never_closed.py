# SPDX-License-Identifier: MIT OR GPL-2.0
"""Anonymous mappings that are never closed."""

import mmap

import zoo

ZOO = {"verdict": "leak", "function": "leak", "rate": 20, "mapped_bytes": 65536}


def leak(n):
    zoo.KEEP[n] = mmap.mmap(-1, 65536)  # LEAK


def churn(n):
    area = mmap.mmap(-1, 65536)
    area.close()


zoo.main(globals())
