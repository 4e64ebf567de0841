# SPDX-License-Identifier: MIT OR GPL-2.0
"""Leaks in its first thread and in another one, and churns beside it, slowly: in a virtual machine
without the processor's help everything is.
"""

import threading
import time

KEPT = []
KEPT_BY_THREAD = []


def leak_in_main(n):
    KEPT.append({"number": n, "half": n / 2})


def leak_in_thread(n):
    KEPT_BY_THREAD.append(["text %d" % n, n / 3])


def churn(n):
    return len({"number": n, "half": n / 2})


def work(leak):
    n = 1000
    while True:
        n += 1
        leak(n)
        churn(n)
        time.sleep(0.005)


threading.Thread(target=work, args=(leak_in_thread,), daemon=True).start()
work(leak_in_main)
