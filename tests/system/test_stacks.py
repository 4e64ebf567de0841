# SPDX-License-Identifier: MIT OR GPL-2.0
"""The stacks in the report against what Python's own traceback says at the same line: every frame,
leaf to root, by qualified name, file and line.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import support
from support import Program, TARGETS, session

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi")

FRAMES_MAX = 128  # of a stack in the report; the rest is cut off, and marked so
COUNT = 40  # as in targets/stacks.py


def observe(python, *arguments, **options):
    """What the target says of its stacks, and the report."""
    with Program(python, TARGETS, "stacks.py", *arguments, **options) as target:
        target.expect("ready", 60)
        with session("--pid", target.pid, "--mode", "exact", "--interval", "1s",
                     "--format", "json") as process:
            support.wait_attached(target.pid)
            target.say("go")
            target.expect("done", 120)
            support.interrupt(process)
            stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert report["session"]["events_lost"] == 0, report["losses"]
    assert report["session"]["coverage_ratio"] >= 0.999, report["session"]
    return {line["stack"]: line["frames"] for line in target.lines if "stack" in line}, report


def compare(said, report):
    """Names of the stacks that the report does not have as they were, with what it has."""
    wrong = {}
    for name, frames in said.items():
        _, _, file, line = frames[0]
        sites = [site for site in report["sites"] if site["stack"] and site["domain"] == "object"
                 and (site["stack"][0]["file"], site["stack"][0]["line"]) == (file, line)
                 and kept_bytes(site)]
        found = [(kept_bytes(site), site.get("cut", False),
                  [describe(frame, expected[1]) for frame, expected in
                   zip(site["stack"], frames + [[None] * 4] * FRAMES_MAX)]) for site in sites]
        expected = [(COUNT, len(frames) > FRAMES_MAX,
                     [f"{qualified or function} {file}:{line}"
                      for function, qualified, file, line in frames[:FRAMES_MAX]])]
        if found != expected:
            wrong[name] = {"found": found, "expected": expected}
    return wrong


def kept_bytes(site):
    """How many bytes objects; a line may keep others besides, until they are collected."""
    return sum(found["objects"] for found in site["types"] if found["name"] == "bytes")


def describe(frame, qualified):
    """Up to 3.10 code objects have no qualified names."""
    function = frame["function"] if qualified else frame["function"].split(".")[-1]
    return f"{function} {frame['file']}:{frame['line']}"


@pytest.fixture(scope="module")
def observations(request):
    """Of the interpreters that are asked for, a few at a time: waiting is much of it."""
    chosen = {item.callspec.params["python"].name: item.callspec.params["python"]
              for item in request.session.items
              if "observations" in getattr(item, "fixturenames", ())}

    def run(python):
        try:
            return observe(python)
        except Exception as error:  # shown by the test that it belongs to
            return error

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(chosen, pool.map(run, chosen.values())))


@pytest.mark.parametrize("python", support.interpreters(), ids=repr)
def test_every_frame_is_the_one_that_python_names(python, observations):
    observation = observations[python.name]
    if isinstance(observation, Exception):
        raise observation
    said, report = observation
    assert len(said) >= 18, sorted(said)
    wrong = compare(said, report)
    assert not wrong, json.dumps(wrong, indent=1)[:20000]


@pytest.mark.needs("gevent")
def test_a_greenlet_has_its_own_frames_only(stock):
    said, report = observe(stock, "--gevent")
    assert sorted(said) == ["greenlet_even", "greenlet_odd"]
    wrong = compare(said, report)
    assert not wrong, json.dumps(wrong, indent=1)[:20000]
