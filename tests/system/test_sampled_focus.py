# SPDX-License-Identifier: MIT OR GPL-2.0
"""The sampled mode at 1 %: mappings that come and go cost no more than their share, the heap says
of what there is more and more, and how much of that can be named (docs/sampled.md).
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import support
from support import Program, pyleakd, report_of

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

# A budget is of the time that the target runs; beside other tests that may be a third of these.
SECONDS = 60

# Maps and unmaps all the time. The leak's slots are of before.
MAPPING = """
import json, mmap, time
KEPT = [None] * 100000
DATA = b"x" * 262144
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
def leak(n):
    KEPT[n] = {"n": n % 100, "name": None}  # LEAK
def churn():
    area = mmap.mmap(-1, 262144, ANONYMOUS)  # CHURN
    AND_WRITES
    area.close()
def main():
    start = said = time.monotonic()
    n = pairs = 0
    while True:
        for _ in range(50):
            churn()
        pairs += 50
        now = time.monotonic()
        while n < (now - start) * 200:
            leak(n)
            n += 1
        if now > said + 0.1:
            said = now
            print(json.dumps({"time": now, "pairs": pairs, "leaked": n}), flush=True)
main()
"""
SPINNING = MAPPING.replace("AND_WRITES", "pass")  # 100,000 pairs a second
BUFFERS = MAPPING.replace("AND_WRITES", "area.write(DATA)")  # 10,000: a server that reads

# Each is a block of 208 bytes: the collector's 16, 16 of the object, 22 slots of 8, which share
# None. Ten times as many come and go at two other lines; or some thousand times as many, among all
# that a handler of JSON makes.
CHURNING = """
import json, time
TEXT = json.dumps([{"a": i, "b": i / 2, "c": str(i), "d": [i]} for i in range(20)])
class Row:
    __slots__ = tuple("s%d" % n for n in range(22))
KEPT = [None] * 100000
def leak(n):
    KEPT[n] = Row()  # LEAK
def churn():
    one = Row()  # CHURN
    other = Row()  # CHURN
    return one is other
def main():
    start = said = time.monotonic()
    n = 0
    while True:
        now = time.monotonic()
        while n < (now - start) * 200:
            leak(n)
            n += 1
            for _ in range(5):
                churn()
        if now > said + 0.1:
            said = now
            print(json.dumps({"time": now, "leaked": n}), flush=True)
        PAUSE
main()
"""
TEN_TIMES = CHURNING.replace("PAUSE", "time.sleep(0.005)")
FULL_SPEED = CHURNING.replace("PAUSE", "[(churn(), json.loads(TEXT)) for _ in range(100)]")
BLOCK_BYTES = 208
# Counted each second or so, and told of what two counts have.
COVERED_MIN = 1 - 3 / SECONDS


class Outcome:
    """A session on a target, and what the target said of itself before and after."""

    def __init__(self, source, directory):
        (directory / "target.py").write_text(source)
        self.source = source
        with Program(support.interpreter("stock-3.11"), directory, "target.py") as target:
            self.first = target.expect("leaked")
            result = pyleakd("--pid", target.pid, "--mode", "sampled", "--budget", "1",
                             "--duration", f"{SECONDS}s", "--interval", "1s", "--format", "json",
                             timeout=SECONDS + 60)
            target.read(0)
            self.last = target.lines[-1]
        self.report = report_of(result)

    def made(self, key):
        return self.last[key] - self.first[key]

    def sites(self, mark):
        marked = [number for number, line in enumerate(self.source.splitlines(), 1)
                  if line.endswith(mark)]
        return [site for site in self.report["sites"] if site["stack"]
                and site["stack"][0]["file"].endswith("target.py")
                and site["stack"][0]["line"] in marked]

    def assert_leak_is_first(self):
        first = self.report["sites"][0]
        assert first["id"] in [site["id"] for site in self.sites("# LEAK")], self.told()
        assert first["verdict"] in ("growing", "leak"), self.told()

    def told(self):
        return json.dumps([self.report["session"], self.report["totals"], self.report["refused"],
                           self.report["sites"][:4]], indent=1)


def outcomes_of(directories, **sources):
    """All sessions at the same time."""
    with ThreadPoolExecutor(len(sources)) as pool:
        return {name: pool.submit(Outcome, source, directories.mktemp("target"))
                for name, source in sources.items()}


@pytest.fixture(scope="module")
def mapping(tmp_path_factory):
    return outcomes_of(tmp_path_factory, spinning=SPINNING, buffers=BUFFERS)


@pytest.fixture(scope="module")
def churning(tmp_path_factory):
    return outcomes_of(tmp_path_factory, ten_times=TEN_TIMES, full_speed=FULL_SPEED)


# --- mappings -------------------------------------------------------------------------------------

def assert_mappings_refused(outcome):
    refused = {refusal["what"]: refusal["why"] for refusal in outcome.report["refused"]}
    assert "mappings" in refused, outcome.told()
    assert "more often than the budget pays for" in refused["mappings"]


def test_mappings_that_come_and_go_are_left_alone_and_the_report_says_so(mapping):
    outcome = mapping["spinning"].result()
    assert_mappings_refused(outcome)
    # Told, each would be two records.
    assert outcome.report["session"]["events"] < 2 * outcome.made("pairs") / 5, outcome.told()
    assert outcome.report["session"]["events_lost"] == 0, outcome.told()


def test_beside_buffers_that_are_mapped_and_unmapped_the_leak_is_first(mapping):
    outcome = mapping["buffers"].result()
    assert_mappings_refused(outcome)
    outcome.assert_leak_is_first()


@pytest.mark.parametrize("name", ["spinning", "buffers"])
def test_what_was_mapped_when_it_was_last_told_is_not_taken_for_kept(mapping, name):
    outcome = mapping[name].result()
    for site in outcome.sites("# CHURN"):
        assert site["verdict"] not in ("growing", "leak"), outcome.told()
        assert site["evidence"]["mapped_bytes"] == 0, outcome.told()


# --- what the heap says ---------------------------------------------------------------------------

def test_the_growth_is_the_heaps_and_what_it_gains_in_objects_is_covered(churning):
    outcome = churning["ten_times"].result()
    growth = outcome.report["totals"]["python_growth_bytes_per_second"]
    truth = BLOCK_BYTES * outcome.made("leaked") / outcome.made("time")
    assert 0.7 * truth <= growth <= 1.3 * truth, (truth, outcome.told())
    assert COVERED_MIN <= outcome.report["session"]["coverage_ratio"] <= 1, outcome.told()


@pytest.mark.parametrize("name", ["ten_times", "full_speed"])
def test_a_leak_is_named_beside_churn_of_its_type_which_is_not_charged(churning, name):
    outcome = churning[name].result()
    outcome.assert_leak_is_first()
    leak = sum(site["outstanding_bytes"] for site in outcome.sites("# LEAK"))
    charged = [site for site in outcome.sites("# CHURN")
               if site["verdict"] in ("growing", "leak")]
    assert sum(site["outstanding_bytes"] for site in charged) <= leak / 10, outcome.told()
