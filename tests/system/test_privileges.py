# SPDX-License-Identifier: MIT OR GPL-2.0
"""Without root: what some capabilities are enough for, and what is said where they are not."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import support
from support import TARGETS

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "setpriv", "stock-3.11")

BREAKPOINTS = ["bpf", "perfmon"]
OTHERS = ["sys_ptrace", "dac_read_search"]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture(scope="module")
def place():
    """A directory that others may read, with the program and a target's in it."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        shutil.copy(support.PYLEAKD, directory)
        shutil.copy(TARGETS / "busy.py", directory)
        yield Path(directory)


def unprivileged(capabilities, *command):
    """The command as nobody, with these capabilities."""
    options = "".join(f",+{name}" for name in capabilities)
    process = support.start([*NOBODY, f"--inh-caps=-all{options}", f"--ambient-caps=-all{options}",
                             *command], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)
    try:
        stdout, stderr = process.communicate(timeout=60)
    finally:
        support.stop(process)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@contextlib.contextmanager
def target(stock, place, prefix):
    process = support.start([*prefix, *stock.command, place / "busy.py", "--sleep"], cwd="/",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline()
        yield process
    finally:
        support.stop(process)


def watch(place, capabilities, pid):
    return unprivileged(capabilities, place / "pyleakd", "--pid", pid, "--mode", "exact",
                        "--duration", "2s", "--interval", "500ms", "--format", "json")


def is_probed(result):
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    if not report["refused"]:
        assert report["session"]["mode"] == "exact" and report["session"]["events"] > 1000
        return True
    assert "CAP_BPF" in report["refused"][0]["why"], report["refused"]
    assert report["session"]["events"] == 0
    assert report["totals"]["python_live_blocks"] > 10000, "not even watched"
    return False


@pytest.mark.parametrize("capabilities,probed", [
    (BREAKPOINTS + OTHERS, True), (OTHERS, False),
    (["bpf", *OTHERS], False), (["perfmon", *OTHERS], False),
], ids=["all", "reading only", "without perfmon", "without bpf"])
def test_a_process_of_another_user_is_probed_or_watched(stock, place, capabilities, probed):
    with target(stock, place, []) as process:
        assert is_probed(watch(place, capabilities, process.pid)) == probed
        assert support.text_differences(process.pid) == []


@pytest.mark.parametrize("capabilities", [[], BREAKPOINTS, [*BREAKPOINTS, "sys_ptrace"],
                                          [*BREAKPOINTS, "dac_read_search"]],
                         ids=lambda names: " ".join(names) or "none")
def test_a_process_of_another_user_that_cannot_be_read_is_refused(stock, place, capabilities):
    with target(stock, place, []) as process:
        result = watch(place, capabilities, process.pid)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
        for name in ("root", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"):
            assert name in result.stderr, result.stderr


@pytest.mark.parametrize("capabilities,probed", [(BREAKPOINTS, True), ([], False)],
                         ids=["bpf perfmon", "none"])
def test_a_process_of_ones_own_needs_no_right_to_read(stock, place, capabilities, probed):
    with target(stock, place, NOBODY) as process:
        assert is_probed(watch(place, capabilities, process.pid)) == probed
        assert support.text_differences(process.pid) == []


def test_check_names_the_capabilities_that_are_missing(place):
    def privileges(capabilities):
        lines = unprivileged(capabilities, place / "pyleakd", "check").stdout.splitlines()
        return next(line for line in lines if line.startswith("privileges"))
    assert "yes" in privileges(BREAKPOINTS + OTHERS)
    line = privileges(["perfmon", *OTHERS])
    assert "NO" in line and "CAP_BPF" in line and "CAP_PERFMON" not in line, line
    line = privileges([])
    for name in ("CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"):
        assert name in line, line


def test_check_does_not_take_what_is_denied_for_missing(place):
    said = unprivileged(OTHERS, place / "pyleakd", "check").stdout
    assert "bpf() is denied" in said and "use Linux 5." not in said, said
