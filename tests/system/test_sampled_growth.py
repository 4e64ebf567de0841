# SPDX-License-Identifier: MIT OR GPL-2.0
"""The sampled mode's other witnesses: pools that were never pools, a higher break, mappings; and
what is one leak, though it has many lines.
"""

import json
import os

import pytest

from support import Program, pyleakd, report_of

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")
half_a_minute = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 runs it")

# Samples of bytes are hopeless: the type is made 100,000 times a second elsewhere, of a size of
# its own, and 60 times here.
POOLS = """
import time
kept = []
def leak():
    kept.append(bytes(400))  # LEAK
def churn():
    for n in range(2000):
        bytes(20)
def main():
    print('{"ready": 1}', flush=True)
    while True:
        churn()
        leak()
        time.sleep(0.015)
main()
"""

BREAK = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def leak():
    libc.memset(libc.malloc(65536), 1, 65536)  # LEAK
def main():
    print('{"ready": 1}', flush=True)
    while True:
        leak()
        time.sleep(0.02)
main()
"""

MAPPINGS = """
import mmap, time
kept = []
def leak():
    kept.append(mmap.mmap(-1, 262144, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))  # LEAK
    kept[-1].write(b'x' * 262144)
def chunk():
    kept.append(bytearray(b'x' * (48 << 20)))  # above what the C library may ever take from brk
def main():
    print('{"ready": 1}', flush=True)
    time.sleep(2)
    chunk()
    while True:
        leak()
        time.sleep(0.1)
main()
"""

FIVE = """
import time
class Session:
    def __init__(self, n):
        self.user = self.user_of(n)
        self.tags = self.tags_of(n)
        self.when = self.when_of(n)
        self.lock = self.lock_of(n)
    def user_of(self, n):
        return {'n': None}  # LEAK
    def tags_of(self, n):
        return {'a', None}  # LEAK
    def when_of(self, n):
        return n + 0.5  # LEAK
    def lock_of(self, n):
        return complex(n, 1)  # LEAK
kept = []
def leak(n):
    kept.append(Session(n))  # LEAK
def main():
    print('{"ready": 1}', flush=True)
    for n in range(10 ** 9):
        sum(len(str(i)) for i in range(300))
        if n % 10 == 0:
            leak(n)
        time.sleep(0.0005)
main()
"""

HOT = """
import time
def main():
    print('{"ready": 1}', flush=True)
    while True:
        [object() for _ in range(20000)]
main()
"""


def sampled(interpreter, source, directory, seconds, *options, budget="1"):
    (directory / "target.py").write_text(source)
    with Program(interpreter, directory, "target.py") as target:
        target.expect("ready")
        return pyleakd("--pid", str(target.pid), "--mode", "sampled", "--budget", budget,
                       "--duration", f"{seconds}s", "--interval", "1s", *options,
                       timeout=seconds + 60)


def lines(source):
    return [number for number, line in enumerate(source.splitlines(), 1) if "# LEAK" in line]


def site_of(report, line):
    found = [site for site in report["sites"] if site["stack"]
             and site["stack"][0]["line"] == line
             and site["stack"][0]["file"].endswith("target.py") and not site["zombies"]]
    assert len(found) == 1, json.dumps(report["sites"][:5], indent=1)
    return found[0]


def json_report(*arguments, **options):
    return report_of(sampled(*arguments, "--format", "json", **options))


@half_a_minute
def test_pools_name_what_samples_can_not(stock, tmp_path):
    report = json_report(stock, POOLS, tmp_path, 30)
    leak = site_of(report, lines(POOLS)[0])
    evidence = leak["evidence"]
    assert evidence["new_pools"] >= 20, evidence
    assert leak["verdict"] in ("growing", "leak"), leak
    assert report["sites"][0]["id"] == leak["id"], report["sites"][:3]
    # 448 bytes each, 36 in a pool of 16 KiB less its header
    low, high = leak["outstanding_bytes_interval"]
    assert low <= evidence["new_pools"] * 36 * 448 <= high * 1.2, leak


@half_a_minute
def test_a_higher_break_belongs_to_who_asked_for_it(stock, tmp_path):
    report = json_report(stock, BREAK, tmp_path, 30)
    leak = site_of(report, lines(BREAK)[0])
    assert leak["evidence"]["brk_calls"] >= 100, leak
    assert leak["evidence"]["brk_bytes"] >= 10 << 20, leak
    assert leak["verdict"] in ("growing", "leak"), leak
    assert leak["domain"] == "native"


def test_what_is_mapped_is_known_whole_and_counts_once(stock, tmp_path):
    report = json_report(stock, MAPPINGS, tmp_path, 15)
    leak = site_of(report, lines(MAPPINGS)[0])
    mapped = leak["evidence"]["mapped_bytes"]
    assert leak["verdict"] == "leak", leak
    assert mapped % 262144 == 0 and mapped >= 80 * 262144, leak
    low, high = leak["outstanding_bytes_interval"]
    # The mmap objects are sampled, their memory isn't.
    assert mapped <= low and high <= mapped * 1.01, leak
    chunk = site_of(report, lines(MAPPINGS)[0] + 3)
    low, high = chunk["outstanding_bytes_interval"]
    assert 48 << 20 <= low and high <= 49 << 20, chunk


@half_a_minute
def test_a_leak_of_five_lines_is_one_finding(stock, tmp_path):
    """The text's form of it is in tests/golden/sampled.txt."""
    report = json_report(stock, FIVE, tmp_path, 40, budget="5")
    sites = [site_of(report, line) for line in lines(FIVE)]
    told = [site for site in sites if site["verdict"] in ("growing", "leak")]
    assert told, [(site["stack"][0], site["verdict"]) for site in sites]
    # Those of sites that are always on; what windows see has counts of its own.
    whole = [site for site in told if site["evidence"]["windows"] == 0]
    if len(whole) < 2:
        pytest.skip("fewer than two of the lines could be always on here")
    findings = [site["finding"] for site in whole]
    finding = max(findings, key=findings.count)
    together = [site for site in whole if site["finding"] == finding]
    assert len(together) >= 2, [(site["stack"][0], site["finding"], site["evidence"])
                                for site in told]
    assert max(together, key=lambda site: site["outstanding_bytes"])["id"] == finding


def test_pools_that_empty_and_refill_are_not_looked_at_for_more_than_is_paid(stock, tmp_path):
    report = json_report(stock, HOT, tmp_path, 15)
    refused = {refusal["what"]: refusal["why"] for refusal in report["refused"]}
    assert "probes of new pools" in refused, report["refused"]
    assert not [site for site in report["sites"] if site["verdict"] in ("growing", "leak")]
    # A session of 15 s has its learning in it.
    assert report["session"]["overhead_ratio"] < 0.03, report["session"]
