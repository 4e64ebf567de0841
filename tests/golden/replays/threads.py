# SPDX-License-Identifier: MIT OR GPL-2.0
"""Four threads: two fill a table, one turns it over, one makes and forgets."""

import threading
import time

table = {}


def fill(name):
    number = 0
    while True:
        number += 1
        table[name, number] = bytearray(900)
        time.sleep(0.04)


def turn_over():
    while True:
        for key in list(table)[:-50]:
            table.pop(key, None)
        time.sleep(0.05)


def churn():
    while True:
        sorted(str(number) for number in range(20))
        time.sleep(0.04)


for function, arguments in ((fill, ("a",)), (fill, ("b",)), (turn_over, ()), (churn, ())):
    threading.Thread(target=function, args=arguments, daemon=True).start()
time.sleep(600)
