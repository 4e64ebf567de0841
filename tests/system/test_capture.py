# SPDX-License-Identifier: MIT OR GPL-2.0
"""Probes on the real kernel against what the processor did: capture_probes.c, built here."""

import subprocess
from pathlib import Path

import pytest
import support

SOURCE = Path(__file__).resolve().parent / "capture_probes.c"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    build = support.PYLEAKD.parent
    target = tmp_path_factory.mktemp("capture") / "capture_probes"
    subprocess.run(
        ["cc", "-std=gnu17", "-O1", "-g", "-Wall", "-D_GNU_SOURCE",
         f"-I{support.ROOT / 'include'}", f"-I{support.ROOT / 'src'}", "-o", target, SOURCE,
         build / "lib" / "capture.a", build / "lib" / "base.a",
         "-lcmocka", "-lbpf", "-lelf", "-lz"],
        check=True)
    return target


@pytest.mark.needs("root", "btf", "uprobe-multi", "pyleakd")
def test_records_say_what_the_processor_did(program):
    result = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
