# SPDX-License-Identifier: MIT OR GPL-2.0
"""Services, and calls that leak, to count which creation sites each one hits.

    heat.py json | sql | nothing | dict | instance | tuple | closure | bytes | list

Says twice a second {"requests": N, "cpu": seconds}; what leaks does so some 20,000 times a second.
"""

import dataclasses
import decimal
import json
import os
import sqlite3
import sys
import time

BODY = json.dumps({"users": [{"id": n, "name": "user %d" % n, "score": n * 1.5}
                             for n in range(20)]})
KEPT = []
PACE = 10000  # leaking calls in half a second


@dataclasses.dataclass
class Row:
    number: int
    name: str
    price: decimal.Decimal


class Thing:
    def __init__(self, number):
        self.number = number
        self.name = "thing"


def serve_json():
    request = json.loads(BODY)
    users = [{"id": user["id"], "label": user["name"].upper(), "points": user["score"] * 2}
             for user in request["users"]]
    json.dumps({"best": max(users, key=lambda user: user["points"])["label"]})


def connect():
    database = sqlite3.connect(":memory:")
    database.execute("create table t (number integer, name text, price text)")
    database.executemany("insert into t values (?, ?, ?)",
                         [(n, "name %d" % n, "%d.25" % n) for n in range(200)])
    return database


def serve_sql(database):
    rows = [Row(number, name, decimal.Decimal(price)) for number, name, price in
            database.execute("select number, name, price from t where number % 7 = 3")]
    return sum(row.price for row in rows)


def make_closure(number):
    return lambda: number


LEAKS = {
    "nothing": lambda n: None,
    "dict": lambda n: {"value": n * 1.5, "name": "row %d" % n},
    "instance": Thing,
    "tuple": lambda n: (n, None, True),
    "closure": make_closure,
    "bytes": lambda n: bytes(40),
    "list": lambda n: [n, None],
}


def work(mode):
    if mode == "json":
        return serve_json
    if mode == "sql":
        database = connect()
        return lambda: serve_sql(database)
    leak = LEAKS[mode]
    count = [0]

    def call():
        count[0] += 1
        kept = leak(count[0])
        if kept is not None:
            KEPT.append(kept)
    return call


def main():
    serves = sys.argv[1] in ("json", "sql")
    call = work(sys.argv[1])
    requests = 0
    while os.getppid() != 1:
        end = time.monotonic() + 0.5
        paced = 0
        while time.monotonic() < end and (serves or paced < PACE):
            for _ in range(20):
                call()
            requests += 20
            paced += 20
        time.sleep(max(end - time.monotonic(), 0))
        print(json.dumps({"requests": requests, "cpu": time.process_time()}), flush=True)


main()
