# SPDX-License-Identifier: MIT OR GPL-2.0
"""Probes on the real kernel against what the processor did: capture_*.c, built here."""

import subprocess
from pathlib import Path

import pytest
import support

HERE = Path(__file__).resolve().parent


def run(name, directory):
    build = support.PYLEAKD.parent
    program = directory / name
    subprocess.run(
        ["cc", "-std=gnu17", "-O1", "-g", "-Wall", "-Wno-unused-function", "-D_GNU_SOURCE",
         f"-I{support.ROOT / 'include'}", f"-I{support.ROOT / 'src'}",
         f"-I{build / 'gen'}",
         "-o", program, HERE / f"{name}.c",
         build / "lib" / "capture.a", build / "lib" / "target.a", build / "lib" / "base.a",
         "-lcmocka", "-lbpf", "-lelf", "-lz", "-lm"],
        check=True)
    result = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.needs("root", "btf", "uprobe-multi", "pyleakd")
@pytest.mark.parametrize("method", ["multi", "tracefs"])
@pytest.mark.parametrize("name", ["capture_probes", "capture_guards"])
def test_records_say_what_the_processor_did(name, method, tmp_path, monkeypatch):
    monkeypatch.setenv("PYLEAKD_ATTACH", method)
    run(name, tmp_path)


@pytest.mark.needs("root", "btf", "pyleakd")
def test_what_the_kernel_does_not_take_is_told_by_its_error(tmp_path):
    run("capture_refusals", tmp_path)
