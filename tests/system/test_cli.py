# SPDX-License-Identifier: MIT OR GPL-2.0
"""The command line: what goes right, and every kind of bad input, as CONTRACT.md has them."""

import json
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import time
from pathlib import Path

import pytest

import conftest
import support
from support import EXACT, Program, TARGETS, ZOO, pyleakd, report_of, session

pytestmark = pytest.mark.needs("pyleakd")
live = pytest.mark.needs("root", "btf", "uprobe-multi", "stock-3.11")
in_each_mode = pytest.mark.parametrize("mode", ["exact", "sampled"])


def is_one_line(result):
    """One line, of what went wrong and what to do about it."""
    lines = [line for line in result.stderr.splitlines() if line]
    return (len(lines) == 1 and len(lines[0]) < 500
            and re.match(r"pyleakd: [^:]+.*: \S", lines[0]) is not None)


def refused(result, *words):
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert is_one_line(result), result.stderr
    assert result.stdout == ""
    for word in words:
        assert word.lower() in result.stderr.lower(), result.stderr


# --- what needs no target -------------------------------------------------------------------------

def test_version_and_help_are_printed():
    version = pyleakd("--version")
    assert version.returncode == 0
    assert re.search(r"\b\d+\.\d+\.\d+\b", version.stdout)
    text = pyleakd("--help")
    assert text.returncode == 0
    for option in ("--pid", "--duration", "--mode", "--interval", "--format", "--output", "--top",
                   "--subprocesses", "--fail-on-leak", "--record", "--no-probes", "replay", "run",
                   "check"):
        assert option in text.stdout, option
    assert all(len(line) <= 100 for line in text.stdout.splitlines())


@pytest.mark.parametrize("arguments", [
    ["--pid"], ["--pid", "abc"], ["--pid", "-5"], ["--pid", "0"], ["--pid", "12x"],
    ["--pid", "99999999999999999999"], ["--pid", "1", "--duration", "banana"],
    ["--pid", "1", "--duration", "-1s"], ["--pid", "1", "--duration", "10parsecs"],
    ["--pid", "1", "--duration", ""], ["--pid", "1", "--interval", "0"],
    ["--pid", "1", "--interval", "nan"], ["--pid", "1", "--format", "xml"],
    ["--pid", "1", "--mode", "fast"], ["--pid", "1", "--top", "many"],
    ["--pid", "1", "--top", "-3"], ["--pid", "1", "--budget", "200"],
    ["--pid", "1", "--budget", "cheap"], ["--unknown"], ["--pid", "1", "stray"],
    ["run"], ["run", "--"], ["replay"], ["frobnicate"],
], ids=lambda arguments: " ".join(arguments))
def test_nonsense_on_the_command_line_is_exit_2(arguments):
    result = pyleakd(*arguments)
    assert result.returncode == 2, (result.returncode, result.stderr)
    assert result.stderr.startswith("pyleakd: "), result.stderr
    assert len(result.stderr.splitlines()) <= 2, result.stderr
    assert result.stdout == ""


def test_a_recording_that_is_not_there_is_one_line(tmp_path):
    refused(pyleakd("replay", tmp_path / "none"), "none")


def test_a_file_that_is_no_recording_is_one_line(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(bytes(random.Random(7).randrange(256) for _ in range(5000)))
    refused(pyleakd("replay", path), "recording")


# --- targets that are none ------------------------------------------------------------------------

def unused_pid():
    pid = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1
    while Path(f"/proc/{pid}").exists():
        pid -= 1
    return pid


@pytest.mark.needs("root")
def test_a_pid_that_does_not_exist_is_refused():
    pid = unused_pid()
    refused(pyleakd("--pid", pid, "--duration", "1s"), str(pid))


@pytest.mark.needs("root")
def test_a_process_that_is_not_python_is_refused():
    sleeper = support.start(["sleep", "60"])
    try:
        refused(pyleakd("--pid", sleeper.pid, "--duration", "1s"), "python")
    finally:
        support.stop(sleeper)


@pytest.mark.needs("root")
def test_a_kernel_thread_is_refused():
    if Path("/proc/2/cmdline").read_bytes():
        pytest.skip("pid 2 is no kernel thread here (a pid namespace)")
    refused(pyleakd("--pid", 2, "--duration", "1s"), "kernel")


@pytest.mark.parametrize("name,version", [("python-2", "2.7"), ("python-3.6", "3.6")])
@pytest.mark.needs("root")
def test_a_python_that_is_too_old_is_refused_by_its_version(name, version):
    conftest.demand(name)
    old = support.start([conftest._pyenv(version), "-c", "import time; time.sleep(60)"])
    try:
        time.sleep(0.5)
        refused(pyleakd("--pid", old.pid, "--duration", "1s"), "Python " + version[0])
    finally:
        support.stop(old)


def tiny_program_of_32_bits(path):
    """An ELF file for i386: pause() for ever. Field by field, since no compiler for it is here."""
    code = bytes.fromhex("b81d000000" "cd80" "ebf7")  # mov eax, 29; int 0x80; jmp back
    base = 0x08048000
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, base + 84, 52, 0, 0,
                         52, 32, 1, 40, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, 84 + len(code), 84 + len(code), 5, 4096)
    path.write_bytes(header + segment + code)
    path.chmod(0o755)


@pytest.mark.needs("root")
def test_a_process_of_32_bits_is_refused(tmp_path):
    path = tmp_path / "python3"
    tiny_program_of_32_bits(path)
    try:
        process = support.start([path])
    except OSError as error:
        pytest.skip(f"the kernel runs no 32-bit programs: {error}")
    try:
        refused(pyleakd("--pid", process.pid, "--duration", "1s"))
    finally:
        support.stop(process)


@pytest.mark.needs("root", "setpriv", "stock-3.11")
def test_without_privilege_one_line_says_so(stock, tmp_path):
    copy = tmp_path / "pyleakd"
    shutil.copy(support.PYLEAKD, copy)
    for directory in [tmp_path, *tmp_path.parents]:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH and directory.owner() == "root" and "pytest" in str(directory):
            directory.chmod(mode | stat.S_IXOTH | stat.S_IROTH)
    copy.chmod(0o755)
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("ready")
        process = support.start(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                 copy, "--pid", target.pid, "--duration", "1s"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                cwd="/")
        stdout, stderr = process.communicate(timeout=20)
        result = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
        refused(result)
        assert re.search(r"root|capabilit|privilege|CAP_", result.stderr), result.stderr


# --- a session, from start to end -----------------------------------------------------------------

REPORT_KEYS = {
    "schema": int, "pyleakd": str, "target": dict, "session": dict, "totals": dict, "sites": list}
TARGET_KEYS = {"pid": int, "command": str, "python": str, "started": float}
NULL = type(None)
SESSION_KEYS = {
    "mode": str, "started": float, "duration_seconds": float, "budget_ratio": (float, NULL),
    "overhead_ratio": (float, NULL), "events": int, "events_lost": int,
    "coverage_ratio": (float, NULL)}
TOTAL_KEYS = {
    "resident_bytes": int, "python_live_bytes": int, "python_live_blocks": int,
    "python_growth_bytes_per_second": (float, NULL), "native_live_bytes": int}
SITE_KEYS = {
    "id": str, "verdict": str, "outstanding_bytes": int, "outstanding_objects": int,
    "growth_bytes_per_second": (float, NULL), "confidence_ratio": (float, NULL), "domain": str,
    "types": list, "stack": list}


def check_keys(found, keys):
    for key, kind in keys.items():
        assert key in found, key
        value = found[key]
        if kind is float or (isinstance(kind, tuple) and float in kind and value is not None):
            assert isinstance(value, (int, float)) and not isinstance(value, bool), (key, value)
        else:
            assert isinstance(value, kind) and not isinstance(value, bool), (key, value)


def check_report(report):
    """Key by key as CONTRACT.md has it."""
    check_keys(report, REPORT_KEYS)
    assert report["schema"] == 1
    check_keys(report["target"], TARGET_KEYS)
    check_keys(report["session"], SESSION_KEYS)
    check_keys(report["totals"], TOTAL_KEYS)
    for key in ("coverage_ratio", "overhead_ratio", "budget_ratio"):
        value = report["session"][key]
        assert value is None or 0 <= value <= 1, (key, value)
    for site in report["sites"]:
        check_keys(site, SITE_KEYS)
        assert re.fullmatch(r"[0-9a-f]{16}", site["id"]), site["id"]
        assert site["verdict"] in ("leak", "growing", "stable", "warming"), site["verdict"]
        assert site["domain"] in ("object", "mem", "raw", "native"), site["domain"]
        assert 0 <= (site["confidence_ratio"] or 0) <= 1
        for kind in site["types"]:
            check_keys(kind, {"name": str, "objects": int, "bytes": int})
        for frame in site["stack"]:
            check_keys(frame, {"function": str, "file": str, "line": (int, NULL)})
    for refusal in report.get("refused", []):
        check_keys(refusal, {"what": str, "why": str})


def check_order(sites):
    rank = {"leak": 0, "growing": 1, "warming": 2, "stable": 2}
    ranks = [rank[site["verdict"]] for site in sites]
    assert ranks == sorted(ranks), [site["verdict"] for site in sites]


@live
@in_each_mode
def test_the_json_report_has_every_key_of_the_contract(stock, mode):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("ready")
        began = time.time()
        report = report_of(pyleakd("--pid", target.pid, "--duration", "4s", "--interval", "1s",
                                   "--format", "json", "--mode", mode))
        check_report(report)
        check_order(report["sites"])
        assert report["target"]["pid"] == target.pid
        assert report["target"]["python"].startswith("3.11.")
        assert "busy.py" in report["target"]["command"]
        assert report["session"]["mode"] == mode
        assert 3.5 <= report["session"]["duration_seconds"] <= 10
        assert abs(report["session"]["started"] - began) < 5
        assert abs(report["target"]["started"] - began) < 30
        assert report["session"]["events"] > 1000
        assert report["totals"]["resident_bytes"] > 1 << 20
        assert report["totals"]["python_live_blocks"] > 1000


@live
def test_the_text_report_answers_in_its_first_lines(stock):
    with Program(stock, ZOO, "global_list.py", "--wait", "--seconds", "60") as target:
        target.expect("ready")
        with session("--pid", target.pid, "--duration", "10s", "--interval", "1s",
                     *EXACT) as process:
            support.wait_attached(target.pid)
            target.say("go")
            stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        lines = stdout.splitlines()
        assert all(word in lines[0] for word in ("pyleakd", str(target.pid), "3.11")), lines[0]
        assert any(line.startswith("LEAK") for line in lines[:6]), stdout[:1000]
        assert "global_list.py" in stdout and "leak" in stdout
        assert "\x1b" not in stdout, "colour without a terminal"
        assert all(len(line) <= 100 for line in lines)


@live
def test_folded_output_is_root_first_with_bytes_at_the_end(stock):
    with Program(stock, ZOO, "deep_stack.py", "--seconds", "60") as target:
        target.expect("ready")
        result = pyleakd("--pid", target.pid, "--duration", "5s", "--format", "folded", *EXACT)
        assert result.returncode == 0, result.stderr
        lines = result.stdout.splitlines()
        assert lines
        for line in lines:
            assert re.fullmatch(r"\S.* \d+", line), line
        deep = max(lines, key=lambda line: line.count("descend"))
        assert deep.count("descend") >= 60, deep
        assert deep.index("main") < deep.index("descend")


@live
def test_the_output_file_is_written_whole_and_standard_output_stays_empty(stock, tmp_path):
    output = tmp_path / "report.json"
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("ready")
        result = pyleakd("--pid", target.pid, "--duration", "2s", "--format", "json",
                         "--output", output)
        assert result.returncode == 0, result.stderr
        assert result.stdout == ""
        check_report(json.loads(output.read_text()))
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@live
def test_an_output_that_cannot_be_written_is_refused_and_nothing_is_left(stock, tmp_path):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("ready")
        refused(pyleakd("--pid", target.pid, "--duration", "1s", "--output",
                        tmp_path / "no" / "such" / "directory"))
        refused(pyleakd("--pid", target.pid, "--duration", "1s", "--output", tmp_path))
        assert list(tmp_path.iterdir()) == []
        assert support.text_differences(target.pid) == []


@live
@in_each_mode
def test_an_interrupt_ends_a_session_with_its_report(stock, mode):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("ready")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with session("--pid", target.pid, "--format", "json", "--mode", mode) as process:
                support.wait_attached(target.pid, settled_seconds=0)
                process.send_signal(number)
                stdout, stderr = process.communicate(timeout=20)
            assert process.returncode == 0, stderr
            check_report(json.loads(stdout))
            assert support.text_differences(target.pid) == []


@live
@in_each_mode
def test_the_targets_exit_ends_a_session_normally(stock, mode):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("ready")
        with session("--pid", target.pid, "--format", "json", "--mode", mode) as process:
            support.wait_attached(target.pid, settled_seconds=0)
            target.process.kill()
            stdout, stderr = process.communicate(timeout=20)
        assert process.returncode == 0, stderr
        check_report(json.loads(stdout))


@live
@in_each_mode
def test_a_pid_that_exits_while_we_attach_hangs_nothing(stock, mode):
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3):
        with Program(stock, TARGETS, "busy.py") as target:
            target.expect("ready")
            with session("--pid", target.pid, "--duration", "20s", "--format", "json",
                         "--mode", mode) as process:
                time.sleep(delay)
                target.process.kill()
                target.process.wait()
                stdout, stderr = process.communicate(timeout=15)
            assert process.returncode in (0, 1), (delay, process.returncode, stderr)
            if process.returncode == 1:
                refused(subprocess.CompletedProcess([], 1, stdout, stderr))
            else:
                check_report(json.loads(stdout))


@live
@in_each_mode
def test_a_target_just_starting_is_waited_for_or_refused_in_one_line(stock, mode):
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02):
        target = support.start([*stock.command, "-c", "import time; time.sleep(20)"])
        try:
            time.sleep(delay)
            result = pyleakd("--pid", target.pid, "--duration", "1s", "--format", "json",
                             "--mode", mode)
            assert result.returncode in (0, 1), result.stderr
            if result.returncode == 1:
                refused(result)
            assert target.poll() is None
        finally:
            support.stop(target)


@live
def test_killed_in_the_middle_it_leaves_the_target_as_it_was(stock):
    with Program(stock, TARGETS, "busy.py") as target:
        target.expect("work")
        speed = support.busy_rate(target)
        with session("--pid", target.pid, *EXACT) as process:
            support.wait_attached(target.pid)
            slowed = support.busy_rate(target)
            process.kill()
            process.wait()
        end = time.monotonic() + 5
        while support.text_differences(target.pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert support.text_differences(target.pid) == []
        assert not support.has_uprobes_mapping(target.pid)
        after = support.busy_rate(target, 2)
        assert slowed < 0.3 * speed, "the probes were not in: the test shows nothing"
        assert after > 0.6 * speed, (speed, slowed, after)


@live
@in_each_mode
def test_after_a_session_nothing_of_it_is_in_the_target(stock, mode):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        report_of(pyleakd("--pid", target.pid, "--duration", "2s", "--format", "json",
                          "--mode", mode))
        assert support.text_differences(target.pid) == []
        assert not support.has_uprobes_mapping(target.pid)


@live
def test_without_probes_no_breakpoint_is_set(stock):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        before = support.private_text_kb(target.pid)
        with session("--pid", target.pid, "--no-probes", "--duration", "4s",
                     "--format", "json") as process:
            while process.poll() is None:
                assert support.private_text_kb(target.pid) == before
                time.sleep(0.1)
            stdout, stderr = process.communicate(timeout=20)
        assert process.returncode == 0, stderr
        report = json.loads(stdout)
        check_report(report)
        assert report["totals"]["python_live_blocks"] > 1000
        assert report["totals"]["resident_bytes"] > 1 << 20


@live
def test_fail_on_leak_is_exit_3_for_a_leak_and_0_without(stock):
    for name, expected in (("global_list", 3), ("stable_churn", 0)):
        with Program(stock, ZOO, f"{name}.py", "--seconds", "60") as target:
            target.expect("ready")
            result = pyleakd("--pid", target.pid, "--duration", "10s", "--interval", "1s",
                             "--format", "json", "--fail-on-leak", *EXACT)
            assert result.returncode == expected, (name, result.stderr, result.stdout[:2000])
            check_report(json.loads(result.stdout))


@live
def test_buffers_that_grow_for_objects_from_before_are_of_those_objects_types(stock, tmp_path):
    script = tmp_path / "elders.py"
    script.write_text("import time\n"
                      "LIST, DICT, SET, BYTES = [0], {}, set(), bytearray()\n"
                      "print('ready', flush=True)\n"
                      "def lists():\n"
                      "    LIST.extend([None] * 100)\n"
                      "def dicts(n):\n"
                      "    DICT[n % 5000] = None\n"
                      "def sets(n):\n"
                      "    SET.add(n % 5000)\n"
                      "def byte_arrays():\n"
                      "    BYTES.extend(b'x' * 100)\n"
                      "n = 0\n"
                      "while True:\n"
                      "    n += 1\n"
                      "    lists(); dicts(n); sets(n); byte_arrays()\n"
                      "    time.sleep(0.002)\n")
    target = support.start([*stock.command, script], stdout=subprocess.PIPE, text=True)
    try:
        assert target.stdout.readline() == "ready\n"
        report = report_of(pyleakd("--pid", str(target.pid), "--duration", "3s", "--interval", "1s",
                                   "--format", "json", *EXACT))
    finally:
        support.stop(target)
    for function, name in (("lists", "list"), ("dicts", "dict"), ("sets", "set"),
                           ("byte_arrays", "bytearray")):
        kinds = {kind["name"]: kind["bytes"] for site in report["sites"]
                 if site["stack"] and site["stack"][0]["function"] == function
                 for kind in site["types"]}
        assert kinds.get(name, 0) > 1000, (function, kinds)
        assert not any(kind.startswith("(raw") for kind in kinds), (function, kinds)


@live
def test_without_pools_no_coverage_is_claimed(stock):
    with Program(stock, ZOO, "global_list.py", "--seconds", "60",
                 env=support.environment(PYTHONMALLOC="malloc")) as target:
        target.expect("ready")
        report = report_of(pyleakd("--pid", target.pid, "--duration", "3s", "--interval", "500ms",
                                   "--format", "json", *EXACT))
    check_report(report)
    assert report["session"]["coverage_ratio"] is None
    assert report["session"]["events"] > 1000


@live
@in_each_mode
def test_with_subprocesses_children_of_before_are_followed_too(tmp_path, mode):
    script = tmp_path / "workers.py"
    script.write_text("import os, time\n"
                      "parent = os.getpid()\n"
                      "for _ in range(2):\n"
                      "    if not os.fork():\n"
                      "        break\n"
                      "print('ready', flush=True)\n"
                      "while os.getppid() == parent or os.getpid() == parent:\n"
                      "    time.sleep(0.1)\n")
    target = support.start(["/usr/bin/python3.11", script], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(3):
            assert target.stdout.readline() == "ready\n"
        result = pyleakd("--pid", str(target.pid), "--subprocesses", "--duration", "1s",
                         "--format", "json", "--mode", mode)
        assert result.returncode == 0, result.stderr
        found = {json.loads(line)["target"]["pid"] for line in result.stdout.splitlines()}
        assert target.pid in found
        assert len(found) == 3
    finally:
        support.stop(target)


@live
@in_each_mode
def test_two_targets_make_two_objects_a_line_each(stock, mode):
    with Program(stock, TARGETS, "busy.py", "--sleep") as one, \
            Program(stock, TARGETS, "busy.py", "--sleep") as two:
        one.expect("ready")
        two.expect("ready")
        result = pyleakd("--pid", one.pid, "--pid", two.pid, "--duration", "3s",
                         "--format", "json", "--mode", mode)
        assert result.returncode == 0, result.stderr
        reports = [json.loads(line) for line in result.stdout.splitlines()]
        for report in reports:
            check_report(report)
        assert {report["target"]["pid"] for report in reports} == {one.pid, two.pid}


# --- run, check, record and replay ----------------------------------------------------------------

@live
@in_each_mode
@pytest.mark.parametrize("code,expected", [("pass", 0), ("raise SystemExit(7)", 7)])
def test_run_passes_on_the_commands_exit_status(stock, tmp_path, code, expected, mode):
    output = tmp_path / "report.json"
    result = pyleakd("run", "--mode", mode, "--format", "json", "--output", output, "--",
                     *stock.command, "-c",
                     "import time; x = [str(i) for i in range(1000)]; time.sleep(1); " + code)
    assert result.returncode == expected, result.stderr
    check_report(json.loads(output.read_text()))


@live
def test_run_follows_a_script_through_its_first_line_into_a_shared_library(tmp_path):
    """A shell first; then an interpreter whose library the loader maps and relocates under us."""
    shared = [python for python in support.interpreters() if "pyenv" in python.name]
    if not shared:
        pytest.skip("no interpreter with a shared library (pyenv)")
    output = tmp_path / "report.json"
    wrapper = tmp_path / "shim"
    wrapper.write_text(f"#!/bin/sh\nexec {' '.join(map(str, shared[-1].command))} \"$@\"\n")
    wrapper.chmod(0o755)
    result = pyleakd("run", *EXACT, "--format", "json", "--output", output, "--", wrapper, "-c",
                     "import time; time.sleep(1); raise SystemExit(5)")
    assert result.returncode == 5, result.stderr
    report = json.loads(output.read_text())
    check_report(report)
    assert report["session"]["events"] > 1000
    assert report["session"]["overhead_ratio"] > 0


@pytest.mark.parametrize("command,during", [
    (["sleep", "60"], "before a Python"),
    (["/usr/bin/python3.11", "-c", "import time; print('up', flush=True); time.sleep(60)"], ""),
], ids=["no Python", "Python"])
@live
def test_a_signal_for_run_alone_ends_the_command_too(command, during, tmp_path):
    with session("run", "--output", tmp_path / "report", "--", *command) as process:
        if during:
            time.sleep(1)
        else:
            assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == (1 if during else 128 + signal.SIGTERM), stderr
    assert during in stderr
    assert (tmp_path / "report").exists() == (not during)


@live
def test_run_of_a_command_that_is_not_there_is_one_line():
    refused(pyleakd("run", "--", "/no/such/command"), "/no/such/command")


@live
def test_check_says_what_the_host_and_the_target_support(stock):
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("work")
        result = pyleakd("check", "--pid", target.pid)
        assert result.returncode == 0, result.stderr
        text = result.stdout.lower()
        for word in ("btf", "ring buffer", "uprobe", "cookie", "3.11", "pymalloc", "sites",
                     "memory", "ns"):
            assert word in text, (word, result.stdout)
        assert support.text_differences(target.pid) == []
    assert pyleakd("check").returncode == 0


@live
def test_a_replay_reports_what_the_session_reported(stock, tmp_path):
    recording, output = tmp_path / "session.rec", tmp_path / "report.json"
    with Program(stock, ZOO, "dict_among_churn.py", "--seconds", "60") as target:
        target.expect("ready")
        result = pyleakd("--pid", target.pid, "--duration", "8s", "--interval", "1s",
                         "--record", recording, "--format", "json", "--output", output)
        assert result.returncode == 0, result.stderr
    original = json.loads(output.read_text())
    assert original["session"]["mode"] == "exact"  # which --record means
    replayed = report_of(pyleakd("replay", recording, "--format", "json"))
    check_report(replayed)
    assert replayed["target"] == original["target"]
    assert replayed["session"]["events"] == original["session"]["events"]
    assert replayed["sites"][0] == original["sites"][0]
    assert len(replayed["sites"]) == len(original["sites"])


@live
def test_a_recording_that_was_cut_off_is_said_to_be(stock, tmp_path):
    recording = tmp_path / "session.rec"
    with Program(stock, TARGETS, "busy.py", "--sleep") as target:
        target.expect("ready")
        result = pyleakd("--pid", target.pid, "--duration", "3s", "--record", recording)
        assert result.returncode == 0, result.stderr
    whole = recording.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100, 8, 0):
        cut = tmp_path / "cut.rec"
        cut.write_bytes(whole[:size])
        result = pyleakd("replay", cut)
        if result.returncode == 0:
            assert "cut off" in "\n".join(result.stdout.splitlines()[:3]), (size, result.stdout)
        else:
            refused(result)
