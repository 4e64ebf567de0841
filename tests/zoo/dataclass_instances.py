# SPDX-License-Identifier: MIT OR GPL-2.0
"""Instances of a dataclass; where they have a dict, it is made in the generated __init__."""

import dataclasses

import zoo

ZOO = {"verdict": "leak", "function": "leak", "match": "stack"}


@dataclasses.dataclass
class Order:
    number: int
    customer: str
    lines: list


def leak(n):
    zoo.KEEP[n] = Order(n % 100, "customer", [None])  # LEAK


def churn(n):
    order = Order(n % 100, "customer", [None])
    order.number = n % 50


zoo.main(globals())
