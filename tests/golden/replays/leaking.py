# SPDX-License-Identifier: MIT OR GPL-2.0
"""Keeps what it should not, and beside it makes and forgets as much."""

import time

kept = []


class Request:
    def __init__(self, number):
        self.name = "request %d" % number
        self.body = [number] * 6


def handle(number):
    kept.append(Request(number))


def answer(number):
    return {"number": number, "text": str(number) * 4}


number = 0
while True:
    for _ in range(4):
        number += 1
        handle(number)
        answer(number)
    time.sleep(0.02)
