# SPDX-License-Identifier: MIT OR GPL-2.0
"""The zoo states the truth: tracemalloc, which is inside, sees the growth at the marked lines, and
the allocators' books grow as the program says. Without root and without pyleakd.
"""

import json
import subprocess

import pytest

import conftest
import support

LEAKING = [name for name in support.zoo_programs()
           if support.zoo_facts(name)[0]["verdict"] == "leak"]
# What goes past CPython's allocators is not tracemalloc's.
UNSEEN = ["ctypes_malloc", "mmap_never_closed"]

SCRIPT = """
import gc, json, os, runpy, sys, tracemalloc
sys.path.insert(0, os.path.dirname(sys.argv[1]))
program = runpy.run_path(sys.argv[1])
if "settle" in program: program["settle"]()
leak = program.get("truth", program["leak"]) if sys.argv[2] == "truth" else program["leak"]
tracemalloc.start(40)
for n in range(2000): leak(n)
if "settle" in program: program["settle"]()
gc.collect() if program["ZOO"].get("gc", True) else None
total = {}
for stat in tracemalloc.take_snapshot().statistics("traceback"):
    frames = [(frame.filename, frame.lineno) for frame in stat.traceback]
    total[json.dumps(frames)] = stat.size
print(json.dumps([[json.loads(key), size] for key, size in total.items()]))
sys.stdout.flush()
os._exit(0)
"""


def traces(name, which, python):
    output = subprocess.run([*python.command, "-c", SCRIPT, support.ZOO / f"{name}.py", which],
                            capture_output=True, text=True, env=support.environment())
    assert output.returncode == 0, output.stderr
    return json.loads(output.stdout)


@pytest.mark.parametrize("name", [name for name in LEAKING if name not in UNSEEN])
def test_tracemalloc_sees_the_growth_at_the_marked_lines(name, stock):
    facts, lines = support.zoo_facts(name)
    if "requires" in facts:
        conftest.demand(facts["requires"])
    whole = facts.get("match") == "stack"
    at_lines = elsewhere = 0
    for frames, size in traces(name, "leak", stock):
        # Frames come oldest first.
        considered = frames if whole else frames[-1:]
        if any(file.endswith(f"{name}.py") and line in lines for file, line in considered):
            at_lines += size
        else:
            elsewhere += size
    assert at_lines > 3 * elsewhere, (at_lines, elsewhere)


@pytest.mark.parametrize("name", support.zoo_programs())
def test_each_program_states_its_verdict_and_its_lines(name):
    facts, lines = support.zoo_facts(name)
    assert facts["verdict"] in ("leak", "stable")
    assert bool(lines) == (facts["verdict"] == "leak")


def test_there_are_enough_of_both_kinds():
    assert len(LEAKING) >= 24
    assert len(support.zoo_programs()) - len(LEAKING) >= 8


def truths(name, python, *counts):
    output = subprocess.run(
        [*python.command, python.place(support.ZOO) / f"{name}.py", "--truth",
         ",".join(str(count) for count in counts)],
        capture_output=True, text=True, env=support.environment())
    assert output.returncode == 0, output.stderr
    lines = [json.loads(line) for line in output.stdout.splitlines()]
    if "skip" in lines[0]:
        pytest.skip(lines[0]["skip"])
    return lines


@pytest.mark.parametrize("python", support.interpreters(), ids=repr)
@pytest.mark.parametrize("name,block", [("float_among_churn", {32}), ("slots_objects", {64}),
                                        ("tuple_among_churn", {64, 80}),
                                        ("cycle_without_collector", {96})])
def test_the_truth_of_a_simple_object_is_its_size_class(name, block, python):
    """A float is 24 bytes, in a class of 32; three pointers and heads make 64, from 3.14 on 72."""
    if str(python.root) != "/":
        conftest.demand("root")
    one, two = truths(name, python, 1000, 3000)
    gained = two["bytes"] - one["bytes"]
    assert any(abs(gained - 2000 * size) <= 0.01 * 2000 * size for size in block), gained


@pytest.mark.parametrize("name", LEAKING)
def test_the_truth_grows_with_the_calls(name, stock):
    one, two = truths(name, stock, 1000, 2000)
    assert 1.5 * one["bytes"] <= two["bytes"] <= 3 * one["bytes"], (one, two)


@pytest.mark.parametrize("name", [name for name in support.zoo_programs() if name not in LEAKING])
def test_what_does_not_leak_does_not_grow_in_the_long_run(name, stock):
    if name == "stable_sawtooth":
        pytest.skip("the truth is measured without the collector")
    one, two = truths(name, stock, 2000, 4000)
    # Two bytes a call are what the C library makes of it; the least that leaks is 16.
    assert two["bytes"] - one["bytes"] < 4 * 2000, (one, two)
