# SPDX-License-Identifier: MIT OR GPL-2.0
"""Python inside other programs: linked with, loaded later, bundled with its files gone, renamed."""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import conftest
import support
from support import Program, TARGETS, session

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "gcc")

HERE = Path(__file__).resolve().parent
THREADS = 3
COUNT = 600  # blocks that each thread leaks
DEBIAN_LIBRARY = Path("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0")


class Embedding:
    """Stands for an interpreter: how a program with Python in it is started."""

    root = Path("/")

    def __init__(self, command, home=None):
        self.command = [str(word) for word in command]
        self.environment = support.environment(**({"PYTHONHOME": str(home)} if home else {}))

    place = support.Interpreter.place


def build(directory, *arguments):
    program = directory / "server"
    subprocess.run(["gcc", "-O1", "-o", program, HERE / "embedder.c", "-pthread", "-ldl",
                    *arguments], check=True)
    return program


def pyenv(minor):
    conftest.demand(f"pyenv-3.{minor}")
    library = support.interpreter(f"pyenv-3.{minor}").elf
    return library, library.parents[1]


def debian_library():
    if not DEBIAN_LIBRARY.exists():
        pytest.skip(f"needs {DEBIAN_LIBRARY}")
    return DEBIAN_LIBRARY


def linked_with_the_library(directory):
    program = build(directory, "-Wl,--no-as-needed", debian_library())
    return Embedding([program, "-", "-", THREADS])


def loading_debians_library(directory):
    return Embedding([build(directory), debian_library(), "-", THREADS])


def loading(minor):
    def embedding(directory):
        library, home = pyenv(minor)
        return Embedding([build(directory), library, "-", THREADS], home)
    embedding.__name__ = f"loading_3_{minor}"
    return embedding


def bundle(minor):
    """A bundle unpacks itself into a directory of its own, which may go while it runs."""
    def embedding(directory):
        library, home = pyenv(minor) if minor else (debian_library(), None)
        private = directory / "_MEI73519"
        private.mkdir()
        shutil.copy(library, private / "libpython.so")
        return Embedding([build(directory), private / "libpython.so", private, THREADS], home)
    embedding.__name__ = f"a_bundle_with_3_{minor or 11}"
    return embedding


def a_renamed_interpreter(directory):
    conftest.demand("stock-3.11")
    shutil.copy("/usr/bin/python3.11", directory / "webserver")
    return Embedding([directory / "webserver"])


KINDS = [linked_with_the_library, loading_debians_library, a_renamed_interpreter,
         *(loading(minor) for minor in (8, 10, 12, 13)), bundle(None), bundle(12), bundle(13)]


class Run:
    def __init__(self, kind, directory):
        embedding = kind(directory)
        with Program(embedding, TARGETS, "embedded.py", "--threads", str(THREADS),
                     env=embedding.environment) as target:
            self.version = target.expect("ready", 60)["version"]
            self.leak(target, 200)
            with session("--pid", target.pid, "--mode", "exact", "--interval", "1s",
                         "--format", "json") as process:
                support.wait_attached(target.pid)
                self.blocks = self.leak(target, COUNT)
                support.interrupt(process)
                stdout, stderr = process.communicate(timeout=120)
            assert process.returncode == 0, stderr
            assert process.returncode == 0 and target.process.poll() is None
        self.report = json.loads(stdout)

    @staticmethod
    def leak(target, count):
        after = len(target.lines)
        target.say(f"leak {count}")
        return target.expect("done", 120, after)["done"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    def run(kind):
        try:
            return Run(kind, tmp_path_factory.mktemp(kind.__name__, numbered=True))
        except BaseException as error:  # a skip too: shown by the test that it belongs to
            return error

    with ThreadPoolExecutor(3) as pool:
        return dict(zip((kind.__name__ for kind in KINDS), pool.map(run, KINDS)))


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
def test_the_leaking_line_and_its_callers_are_named(kind, runs):
    run = runs[kind]
    if isinstance(run, BaseException):
        raise run
    report = run.report
    assert report["target"]["python"] == run.version
    assert report["session"]["events_lost"] == 0, report["losses"]
    assert report["session"]["coverage_ratio"] >= 0.999, report["session"]
    source = (TARGETS / "embedded.py").read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if text.endswith("# LEAK"))
    sites = [site for site in report["sites"] if site["domain"] == "object" and site["stack"] and
             (site["stack"][0]["function"], site["stack"][0]["line"]) == ("keep", line)]
    # By the thread that runs the script and by the others, and by nothing else.
    found = {tuple(frame["function"] for frame in site["stack"]): site["outstanding_objects"]
             for site in sites}
    by_callers = {"main": 0, "work": 0}
    for functions, count in found.items():
        by_callers[functions[2]] += count
    assert by_callers == {"main": COUNT, "work": THREADS * COUNT}, found
    assert run.blocks == (THREADS + 1) * COUNT
    assert report["sites"][0]["stack"][0]["line"] == line, report["sites"][0]
    assert all(site["outstanding_bytes"] == 112 * site["outstanding_objects"] for site in sites)
