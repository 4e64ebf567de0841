# SPDX-License-Identifier: MIT OR GPL-2.0
"""Allocates, frees and creates under a stack of ten Python frames, for ever."""


def work(depth, count):
    if depth > 1:
        return work(depth - 1, count)
    kept = []
    for number in range(count):
        kept.append((number * 1000.5, {"number": number}, [number]))
    return len(kept)


while True:
    work(9, 200)
