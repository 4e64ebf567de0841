# SPDX-License-Identifier: MIT OR GPL-2.0
"""Prerequisites by name, and a look at the end for what may have been left behind.

A test asks with @pytest.mark.needs("root", "btf", "python-3.14"); what is missing is a skip with
its reason. REQUIRE="root btf ..." lists those whose absence is a failure (CI sets it).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import support  # noqa: E402
from cgroups import Cgroup  # noqa: E402


def _missing_swap():
    if os.geteuid() != 0:
        return "swapon needs root"
    return None if shutil.which("mkswap", path="/usr/sbin:/sbin") else "no mkswap"


def _missing_cgroup():
    if os.geteuid() != 0:
        return "making a cgroup needs root"
    if Path("/sys/fs/cgroup/memory/cgroup.procs").exists():
        return None
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if controllers.exists() and "memory" in controllers.read_text().split():
        return None
    return "no memory controller under /sys/fs/cgroup"


def _missing_uprobe_multi():
    """Asks the running kernel's BTF for the enumerator, not its version."""
    tool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    try:
        dump = subprocess.run([tool, "btf", "dump", "file", "/sys/kernel/btf/vmlinux"],
                              capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return None if "BPF_TRACE_UPROBE_MULTI" in dump.stdout else "the kernel has none"


def _pyenv(prefix):
    tool = shutil.which("pyenv")
    if not tool:
        return None
    root = Path(subprocess.run([tool, "root"], capture_output=True, text=True).stdout.strip())
    found = sorted((root / "versions").glob(prefix + ".*"))
    return found[0] / "bin" / ("python" + prefix) if found else None


CHECKS = {
    "pyleakd": lambda: None if support.PYLEAKD.exists() else f"{support.PYLEAKD} is not built",
    "root": lambda: None if os.geteuid() == 0 else "not root",
    "btf": lambda: None if Path("/sys/kernel/btf/vmlinux").exists() else "no /sys/kernel/btf",
    "uprobe-multi": _missing_uprobe_multi,
    "cgroup-memory": _missing_cgroup,
    "swap": _missing_swap,
    "setpriv": lambda: None if shutil.which("setpriv") else "no setpriv",
    "gcc": lambda: None if shutil.which("gcc") else "no gcc",
    "prometheus": lambda: None if shutil.which("prometheus") else "no prometheus",
    "uwsgi": lambda: None if shutil.which("uwsgi") else "no uwsgi",
    "numpy": lambda: _stock_module("numpy"),
    "gevent": lambda: _stock_module("gevent"),
    "python-2": lambda: None if _pyenv("2.7") else "no Python 2 (pyenv)",
    "python-3.6": lambda: None if _pyenv("3.6") else "no Python 3.6 (pyenv)",
}
_known = {}


def _stock_module(name):
    found = subprocess.run(["/usr/bin/python3.11", "-c", f"import {name}"], capture_output=True)
    return None if found.returncode == 0 else f"no {name} for /usr/bin/python3.11"


def _missing_interpreter(name):
    match = re.fullmatch(r"python-(3\.\d+)", name)
    if match:
        minor = int(match.group(1).split(".")[1])
        if any(python.minor == minor for python in support.interpreters()):
            return None
    elif support.interpreter(name):
        return None
    return "no such interpreter at hand (make interpreters)"


def missing(name):
    """Why a prerequisite is not there, or None."""
    if name not in _known:
        _known[name] = CHECKS[name]() if name in CHECKS else _missing_interpreter(name)
    return _known[name]


def required():
    return set(re.split(r"[\s,]+", os.environ.get("REQUIRE", "").strip())) - {""}


def demand(*names):
    """Skips or fails where a prerequisite is missing; to be called from a test too."""
    for name in names:
        why = missing(name)
        if why and name in required():
            pytest.fail(f"needs {name}, which REQUIRE lists: {why}", pytrace=False)
        if why:
            pytest.skip(f"needs {name}: {why}")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*names): prerequisites, see conftest.py")


def pytest_runtest_setup(item):
    for mark in item.iter_markers("needs"):
        demand(*mark.args)


def pytest_terminal_summary(terminalreporter, config):
    for line in getattr(config, "left_behind", []):
        terminalreporter.write_line("LEFT BEHIND: " + line, red=True)


def _marked_processes():
    """Processes with this session's mark in their environment, this one and its parents apart."""
    needle = f"{support.MARK}={support.MARK_VALUE}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if needle in (entry / "environ").read_bytes():
                yield entry.name + " " + (entry / "comm").read_text().strip()
        except OSError:
            continue


def _hear_signals_again():
    """What a shell's background, or nohup, ignores, programs that tests start would ignore too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_sessionstart(session):
    _hear_signals_again()
    session.config.links_before = support.bpf_links() if os.geteuid() == 0 else {}


def pytest_sessionfinish(session, exitstatus):
    """No process, no BPF link of ours: a test that leaves one makes the session fail."""
    end = time.monotonic() + 5  # orphans of a target that was killed may have work to end
    while (left := ["process " + text for text in _marked_processes()]):
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    if os.geteuid() == 0:
        for number, link in support.bpf_links().items():
            owners = {owner.get("pid") for owner in link.get("pids", [])} | {link.get("pid")}
            if number not in session.config.links_before and owners & support.STARTED_PIDS:
                left.append(f"BPF link {number} {link.get('type')}")
    session.config.left_behind = left
    if left and session.exitstatus == 0:
        session.exitstatus = 1


@pytest.fixture
def stock():
    demand("stock-3.11")
    return support.interpreter("stock-3.11")


@pytest.fixture
def cgroup():
    group = Cgroup(f"pyleakd-test-{os.getpid()}")
    yield group
    group.remove()
