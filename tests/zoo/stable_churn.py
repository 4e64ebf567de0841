# SPDX-License-Identifier: MIT OR GPL-2.0
"""Nothing but churn, of many types."""

import zoo

ZOO = {"verdict": "stable"}


def leak(n):
    churn(n)


def churn(n):
    record = {"id": n + 1000000, "price": n * 0.5, "name": "name %d" % n}
    record["tags"] = [str(n), (n, record["price"]), b"%d" % n * 50]
    return sorted(record)


zoo.main(globals())
