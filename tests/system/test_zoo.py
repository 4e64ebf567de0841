# SPDX-License-Identifier: MIT OR GPL-2.0
"""Each program of the zoo: the leaking line is named and its bytes are right; what doesn't leak is
not flagged.

All programs on the stock interpreter; on the others those that differ by version (ZOO_ALL=1: all).
Sessions run a few at a time, each on a process of its own.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

import conftest
import support

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi")

AT_A_TIME = 8
TOLERANCE = 0.05
SENSITIVE = ["closure", "deep_stack", "dict_among_churn", "float_among_churn", "global_dict",
             "instances_with_dict", "list_beyond_512_bytes", "tuple_among_churn",
             "unfinished_generator", "ctypes_malloc", "stable_churn", "stable_ring_buffer"]


# A version of each layout and build of the others: the units ask all of them about the rest.
QUICK = ["debian-3.9", "debian-3.13", "debian-3.14", "debian-3.15", "pyenv-3.12"]


def cases():
    for python in support.interpreters():
        stock = python.name == "stock-3.11"
        for name in support.zoo_programs():
            if (stock or os.environ.get("ZOO_ALL")
                    or (name in SENSITIVE and python.name in QUICK)):
                yield pytest.param((name, python), id=f"{name}-{python.name}")


@pytest.fixture(scope="session")
def zoo_results(request):
    """All selected programs, a few at a time: waiting is most of a session."""
    wanted = {}
    for item in request.session.items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        if case:
            wanted[(case[0], case[1].name)] = case

    def run(case):
        try:
            return support.ZooResult(*case).run()
        except Exception as error:  # shown by the test that it belongs to
            return error

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = dict(zip(wanted, pool.map(run, wanted.values())))
    for key, result in results.items():
        if getattr(result, "starved", False):
            results[key] = run(wanted[key])  # alone
    return results


@pytest.fixture
def result(zoo_results, case):
    found = zoo_results[(case[0], case[1].name)]
    if isinstance(found, Exception):
        raise found
    if found.skip:
        if found.facts.get("requires") in conftest.required() and case[1].name == "stock-3.11":
            pytest.fail(found.skip, pytrace=False)
        pytest.skip(found.skip)
    return found


def belongs(result, site, leaf_only):
    frames = site["stack"][:1] if leaf_only else site["stack"]
    return any(result.is_marked(frame) for frame in frames)


def check_leak(result, minor):
    sites = result.report["sites"]
    assert sites, "no site at all"
    leaf_only = result.facts.get("match", "leaf") == "leaf"
    top = sites[0]
    assert belongs(result, top, leaf_only), result.describe()
    assert top["verdict"] == "leak", result.describe()
    frame = next(frame for frame in top["stack"] if result.is_marked(frame))
    if leaf_only:
        expected = support.function_expected(result.facts, minor)
        assert frame["function"].split(".")[-1] == expected, result.describe()
        # One line makes one site of a domain, whatever of its instructions it is.
        ours = [site for site in sites if site["stack"] == top["stack"]]
    else:
        ours = [site for site in sites if belongs(result, site, False)]
    bytes_found = sum(site["outstanding_bytes"] for site in ours)
    low = min(result.truths) * (1 - TOLERANCE)
    high = max(result.truths) * (1 + TOLERANCE)
    assert low <= bytes_found <= high, f"{bytes_found} not in {result.truths}: {result.describe()}"


def check_stable(result):
    flagged = [site for site in result.report["sites"] if site["verdict"] in ("leak", "growing")]
    assert not flagged, result.describe()


@pytest.mark.parametrize("case", cases())
def test_the_verdict_and_the_site_are_right(case, result):
    report = result.report
    assert report["session"]["events"] > 0
    assert report["session"]["events_lost"] == 0, report.get("losses")
    if result.facts["verdict"] == "leak":
        check_leak(result, case[1].minor)
    else:
        check_stable(result)


@pytest.mark.parametrize("case", cases())
def test_the_ledger_covers_what_the_pools_show(case, result):
    assert result.report["session"]["coverage_ratio"] >= 0.999, result.report["session"]
