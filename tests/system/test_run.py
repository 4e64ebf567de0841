# SPDX-License-Identifier: MIT OR GPL-2.0
"""A command that pyleakd starts, from its first instruction to its end, however it ends."""

import json
import resource
import signal

import pytest

import conftest
import support
from support import EXACT, TARGETS, pyleakd

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi")


def run(python, tmp_path, program, *arguments):
    """The report, the program's own words, and the result."""
    output = tmp_path / "report.json"
    result = pyleakd("run", *EXACT, "--format", "json", "--output", output, "--", *python.command,
                     program, *arguments)
    assert output.exists(), result.stderr
    return json.loads(output.read_text()), result


def held_by(report, function, file="ending.py"):
    sites = [site for site in report["sites"] if site["stack"]
             and site["stack"][0]["function"] == function
             and site["stack"][0]["file"].endswith(file)]
    return (sum(site["outstanding_bytes"] for site in sites),
            sum(site["outstanding_objects"] for site in sites))


def check_in_full(report, result):
    truth = json.loads(result.stdout.splitlines()[-1])
    held_bytes, held_objects = held_by(report, "keep")
    assert abs(held_bytes - truth["bytes"]) <= 0.05 * truth["bytes"], (held_bytes, truth)
    assert abs(held_objects - truth["objects"]) <= 0.05 * truth["objects"], (held_objects, truth)
    assert report["session"]["events_lost"] == 0


@pytest.mark.parametrize("name", ["stock-3.11", "debian-3.9", "debian-3.14", "pyenv-3.12"])
def test_a_script_that_ends_by_itself_is_reported_in_full(name, tmp_path):
    conftest.demand(name)
    python = support.interpreter(name)
    report, result = run(python, tmp_path, python.place(TARGETS) / "ending.py", "by itself")
    assert result.returncode == 0, result.stderr
    check_in_full(report, result)
    assert report["session"]["moment"] == "finalization"


@pytest.mark.parametrize("how,status,moment", [
    ("sys.exit", 7, "finalization"),
    ("exception", 1, "finalization"),
    ("thread", 0, "finalization"),  # of which the main one does not wait: the interpreter does
    ("daemon thread", 0, "finalization"),
    ("atexit", 0, "finalization"),  # what its functions give back is given back
    ("os._exit", 9, "exit"),
    ("SIGKILL", 128 + signal.SIGKILL, "exit"),
])
@pytest.mark.needs("stock-3.11")
def test_however_a_script_ends_what_it_held_is_reported(stock, how, status, moment, tmp_path):
    report, result = run(stock, tmp_path, TARGETS / "ending.py", how)
    assert result.returncode == status, result.stderr
    check_in_full(report, result)
    assert report["session"]["moment"] == moment


@pytest.mark.needs("stock-3.11")
def test_the_text_says_of_which_moment_it_is(stock, tmp_path):
    result = pyleakd("run", *EXACT, "--", *stock.command, TARGETS / "ending.py", "by itself")
    assert result.returncode == 0, result.stderr
    report = result.stdout.split("pyleakd ", 1)[1]
    assert "as of    the interpreter's end" in report[:1000], report


@pytest.mark.needs("stock-3.11")
def test_a_command_is_seen_from_its_first_instructions(stock, tmp_path):
    """What its interpreter imports before the script is read, and the script's first line."""
    script = tmp_path / "early.py"
    script.write_text("KEPT = [b'%99d' % n for n in range(3000)]  # at once\n"
                      "import time\n"
                      "time.sleep(1.5)\n")
    report, result = run(stock, tmp_path, script)
    assert result.returncode == 0, result.stderr
    early = [site for site in report["sites"]
             if any(frame["file"].endswith("early.py") and frame["line"] == 1
                    for frame in site["stack"])]
    truth = 3000 * 144 + 3000 * 8  # 99 + 33 bytes, in blocks of 16; and the list that holds them
    assert abs(sum(site["outstanding_bytes"] for site in early) - truth) <= 0.05 * truth
    start = [site for site in report["sites"]
             if any(frame["file"] == "<frozen site>" or frame["file"].endswith("/site.py")
                    for frame in site["stack"])]
    assert sum(site["outstanding_objects"] for site in start) > 1000


@pytest.mark.needs("stock-3.11")
def test_without_probes_the_last_whole_heap_is_told(stock, tmp_path):
    """One that was read while the interpreter tore it down would be told as a heap that shrank."""
    output = tmp_path / "report.json"
    result = pyleakd("run", "--no-probes", "--interval", "0.5s", "--format", "json",
                     "--output", output, "--", *stock.command, "-c",
                     "import time; x = [object() for _ in range(200000)]; time.sleep(1.2)")
    assert result.returncode == 0, result.stderr
    report = json.loads(output.read_text())
    assert report["session"]["mode"] == "watch"
    assert report["totals"]["python_live_blocks"] > 200000, report["totals"]


@pytest.mark.needs("stock-3.11")
def test_a_starter_that_ignores_its_children_does_not_keep_it_waiting(stock, tmp_path):
    def ignore():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    program = "import signal; print(signal.getsignal(signal.SIGCHLD).name); raise SystemExit(5)"
    result = pyleakd("run", "--output", tmp_path / "report.txt", "--", *stock.command, "-c",
                     program, preexec_fn=ignore)
    assert result.returncode == 5, result.stderr
    assert result.stdout == "SIG_IGN\n"  # the command has it as it was


@pytest.mark.needs("stock-3.11")
def test_a_low_limit_of_open_files_is_raised_for_us_and_not_for_the_command(stock, tmp_path):
    def lower():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, hard))  # a session needs some 40

    program = tmp_path / "limit.py"
    program.write_text("import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n")
    output = tmp_path / "report.json"
    result = pyleakd("run", "--format", "json", "--output", output, "--", *stock.command, program,
                     preexec_fn=lower)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "24\n"
    assert json.loads(output.read_text())["refused"] == []
