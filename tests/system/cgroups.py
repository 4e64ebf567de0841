# SPDX-License-Identifier: MIT OR GPL-2.0
"""Memory cgroups of a test's own."""

import contextlib
import time
from pathlib import Path


class Cgroup:
    """A memory cgroup of the test's own, version 1 or 2."""

    def __init__(self, name):
        self.v1 = Path("/sys/fs/cgroup/memory/cgroup.procs").exists()
        base = Path("/sys/fs/cgroup/memory" if self.v1 else "/sys/fs/cgroup")
        if not self.v1:
            (base / "cgroup.subtree_control").write_text("+memory")
        self.path = base / name
        self.path.mkdir()

    def add(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def usage(self):
        name = "memory.usage_in_bytes" if self.v1 else "memory.current"
        return int((self.path / name).read_text())

    def limit(self, size):
        name = "memory.limit_in_bytes" if self.v1 else "memory.max"
        (self.path / name).write_text(str(size))

    def reclaim(self):
        """Pushes out what can go (page cache), so that the headroom is what it says."""
        with contextlib.suppress(OSError):
            if self.v1:
                (self.path / "memory.force_empty").write_text("0")
            else:
                (self.path / "memory.reclaim").write_text("64M")

    def remove(self):
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.path} could not be removed")
