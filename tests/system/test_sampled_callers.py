# SPDX-License-Identifier: MIT OR GPL-2.0
"""A build that inlines nothing in the sampled mode: what leaks among hot churn of its own type is
charged to the line that leaks, with the sites behind allocators' calls in.
"""

import json
import os
import re
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "pyenv-3.11")
half_a_minute = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 runs it")

SECONDS = 30
RATE = 2000  # calls a second; ten times as many churn: too many for the one creation to stay on
PROGRAMS = ["dict_among_churn", "list_among_churn", "tuple_among_churn", "float_among_churn",
            "closure"]


def run(name):
    python = support.interpreter("pyenv-3.11")
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "report.json"
        with support.Program(python, support.ZOO, f"{name}.py", "--wait", "--rate", RATE,
                             "--seconds", "600") as program:
            program.read(60)
            with support.session("--pid", program.pid, "--mode", "sampled", "--budget", "5",
                                 "--format", "json", "--output", output,
                                 stdout=subprocess.DEVNULL,
                                 env=support.environment(PYLEAKD_CALLERS="1")) as process:
                support.wait_attached(program.pid, settled_seconds=0)
                program.say("go")
                end = time.monotonic() + SECONDS
                while time.monotonic() < end:
                    program.read(0.2)
                support.interrupt(process)
                process.wait(timeout=60)
            return json.loads(output.read_text())


@pytest.fixture(scope="module")
def reports():
    with ThreadPoolExecutor(len(PROGRAMS)) as pool:
        return dict(zip(PROGRAMS, pool.map(run, PROGRAMS)))


def bytes_of(report, name, function):
    return sum(site["outstanding_bytes"] for site in report["sites"]
               if any(re.search(rf"\b{function}\b", frame["function"])
                      and frame["file"].endswith(f"{name}.py") for frame in site["stack"]))


@half_a_minute
@pytest.mark.parametrize("name", PROGRAMS)
def test_churn_of_the_same_type_is_not_charged(reports, name):
    report = reports[name]
    leak, churn = bytes_of(report, name, "leak"), bytes_of(report, name, "churn")
    assert report["session"]["windows"] > 0
    assert leak > 0, report["sites"][:3]
    assert churn < 0.1 * leak, [(site["outstanding_bytes"], site["stack"][:2])
                                for site in report["sites"][:4]]
