# SPDX-License-Identifier: MIT OR GPL-2.0
"""A service that leaks (leak), does so slowly (slow), or does the same work without (stable), until
its input ends.

Called by a name of its own (a link), so that a daemon can be told to look at it alone.
"""
import select
import sys

kept = []


def remember(number):
    kept.append({"number": number, "text": "x" * 50 + str(number)})


def work(number):
    return [str(number + i) for i in range(500)]


def main():
    number = 0
    print('{"ready": true}', flush=True)
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        work(number)
        number += 1
        for i in range({"leak": 10, "slow": number % 2, "stable": 0}[sys.argv[1]]):
            remember(number)


main()
