# SPDX-License-Identifier: MIT OR GPL-2.0
"""Leaks of the zoo's shapes inside another program, each at a rate of its own.

A specification is SHAPE=CALLS_A_SECOND[,SHAPE=…]; a shape is a program of tests/zoo, and its own
leak() is what is called, so that the marked line is the zoo's.
"""

import importlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "zoo"))
CALLS_AT_ONCE = 50


class Leak:
    def __init__(self, shape, calls_a_second):
        self.shape = shape
        # Each has slots of its own: in the same ones, what one leaks another would free.
        sys.modules.pop("zoo", None)
        self.call = importlib.import_module(shape).leak
        self.calls_a_second = calls_a_second
        self.calls = 0


class Leaks:
    """tick() belongs into a request: it does what is due, a few calls at a time."""

    def __init__(self, specification):
        self.leaks = []
        for part in filter(None, specification.split(",")):
            shape, rate = part.split("=")
            self.leaks.append(Leak(shape, float(rate)))
        self.started = time.monotonic()

    def tick(self):
        if not self.leaks:
            return
        elapsed = time.monotonic() - self.started
        for leak in self.leaks:
            due = min(int(elapsed * leak.calls_a_second), leak.calls + CALLS_AT_ONCE)
            while leak.calls < due:
                leak.call(leak.calls)
                leak.calls += 1

    def calls(self):
        return {leak.shape: leak.calls for leak in self.leaks}
