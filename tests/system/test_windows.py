# SPDX-License-Identifier: MIT OR GPL-2.0
"""Groups of sites that go in and out: capture_windows.c on the real kernel."""

import pytest
from test_capture import run


@pytest.mark.needs("root", "btf", "uprobe-multi", "pyleakd")
def test_groups_go_in_and_out(tmp_path):
    run("capture_windows", tmp_path)
