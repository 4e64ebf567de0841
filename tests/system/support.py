# SPDX-License-Identifier: MIT OR GPL-2.0
"""What the system tests have in common: targets, sessions, and looking at a target from outside."""

import ast
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "tests" / "zoo"
TARGETS = Path(__file__).resolve().parent / "targets"
PYLEAKD = Path(os.environ.get("PYLEAKD", ROOT / "build" / "pyleakd")).resolve()

# Every process that a test starts carries this; the end of the session looks for it.
MARK = "PYLEAKD_TEST_SESSION"
MARK_VALUE = uuid.uuid4().hex
STARTED_PIDS = set()


def environment(**more):
    result = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result.update({MARK: MARK_VALUE, **more})
    return result


def start(command, **options):
    options.setdefault("env", environment())
    process = subprocess.Popen([str(word) for word in command], **options)
    STARTED_PIDS.add(process.pid)
    return process


def stop(process):
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


# --- interpreters -------------------------------------------------------------------------------

class Interpreter:
    """One interpreter at hand: its command, the root of its files, the ELF file with CPython."""

    def __init__(self, line):
        name, command, root, elf = line.split("\t")
        self.name = name
        self.command = command.split()
        self.root = Path(root)
        self.elf = Path(elf)
        self.minor = int(re.search(r"3\.(\d+)", name).group(1))

    def __repr__(self):
        return self.name

    def place(self, directory):
        """Makes a directory of programs visible to the interpreter; its path as that sees it."""
        if self.root == Path("/"):
            return Path(directory)
        inside = Path("/srv") / Path(directory).name
        shutil.copytree(directory, self.root / inside.relative_to("/"), dirs_exist_ok=True)
        return inside


def interpreters():
    if not hasattr(interpreters, "known"):
        output = subprocess.run([ROOT / "tools" / "interpreters.sh", "list"],
                                capture_output=True, text=True, check=True).stdout
        interpreters.known = [Interpreter(line) for line in output.splitlines()]
    return interpreters.known


def interpreter(name):
    for candidate in interpreters():
        if candidate.name == name:
            return candidate
    return None


# --- programs of the zoo, and targets -------------------------------------------------------------

class Program:
    """A program that speaks JSON lines; `with Program(...) as program` ends it in any case."""

    def __init__(self, python, directory, name, *arguments, **options):
        inside = python.place(directory)
        self.lines = []
        self.buffer = b""
        self.process = start([*python.command, inside / name, *arguments],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)

    def read(self, timeout):
        """Takes what the program has said so far; waits for something. False at its end."""
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        if not ready:
            return True
        text = os.read(self.process.stdout.fileno(), 1 << 16)
        *whole, self.buffer = (self.buffer + text).split(b"\n")
        self.lines += [json.loads(line) for line in whole if line]
        return bool(text)

    def expect(self, key, timeout=20, after=0):
        """The first record from number `after` on that has this key."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for line in self.lines[after:]:
                if key in line:
                    return line
            if not self.read(0.1) and not any(key in line for line in self.lines[after:]):
                break
        raise AssertionError(f"the target did not say {key!r}: {self.lines[-3:]}")

    def say(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def finish(self):
        """Ends the program's input and takes its last words."""
        self.process.stdin.close()
        while self.read(5):
            pass
        self.process.wait(timeout=20)


# --- pyleakd ------------------------------------------------------------------------------------

EXACT = ("--mode", "exact")  # for what is true of every allocation, and of short sessions


def pyleakd(*arguments, timeout=60, **options):
    """Runs pyleakd to its end."""
    process = start([PYLEAKD, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True, **options)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        stop(process)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@contextlib.contextmanager
def session(*arguments, **options):
    """pyleakd in the background; killed at the latest when the block ends."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    process = start([PYLEAKD, *arguments], stdin=subprocess.DEVNULL, text=True, **options)
    try:
        yield process
    finally:
        stop(process)


def report_of(result):
    """The JSON report, or a failure that shows what pyleakd said."""
    assert result.returncode in (0, 3), f"exit {result.returncode}: {result.stderr[-2000:]}"
    return json.loads(result.stdout)


# --- the target from outside ----------------------------------------------------------------------

class Mapping:
    def __init__(self, line):
        fields = line.split(None, 5)
        self.start, self.end = (int(word, 16) for word in fields[0].split("-"))
        self.protection = fields[1]
        self.offset = int(fields[2], 16)
        self.path = fields[5].strip() if len(fields) > 5 else ""


def mappings(pid):
    return [Mapping(line) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]


def private_texts(pid):
    """Of executable file mappings, by start: kibibytes that are no longer the file's own pages."""
    found, executable = {}, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"^[0-9a-f]+-[0-9a-f]+ ", line):
            mapping = Mapping(line)
            executable = "x" in mapping.protection and mapping.path.startswith("/")
        elif executable and line.startswith("Anonymous:"):
            found[mapping.start] = int(line.split()[1])
    return found


def private_text_kb(pid):
    return sum(private_texts(pid).values())


def text_differences(pid, private_only=False):
    """Places in the target's executable file mappings that differ from their files: breakpoints.

    They are on private pages: with private_only, mappings without any are not compared.
    """
    different = []
    private = private_texts(pid) if private_only else {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for mapping in mappings(pid):
            if "x" in mapping.protection and mapping.path.startswith("/"):
                if private_only and not private.get(mapping.start):
                    continue
                file = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
                with open(file, "rb") as image:
                    image.seek(mapping.offset)
                    expected = image.read(mapping.end - mapping.start)
                memory.seek(mapping.start)
                found = memory.read(len(expected))
                different += [f"{mapping.path}+{mapping.offset + at:#x}"
                              for at in _differences(expected, found)]
    return different


def _differences(expected, found, step=4096):
    for start in range(0, len(expected), step):
        one, other = expected[start:start + step], found[start:start + step]
        if one != other:
            yield from (start + at for at in range(len(one)) if one[at:at + 1] != other[at:at + 1])


def wait_attached(pid, timeout=60, settled_seconds=0.4):
    """Waits until breakpoints are in the target's text, and no more are coming."""
    end = time.monotonic() + timeout
    last, since = 0, time.monotonic()
    while time.monotonic() < end:
        now = len(text_differences(pid, private_only=True))
        if now != last:
            last, since = now, time.monotonic()
        if last > 0 and time.monotonic() - since >= settled_seconds:
            return last
        time.sleep(0.05)
    raise AssertionError("no breakpoint came into the target's text")


def has_uprobes_mapping(pid):
    return any(mapping.path == "[uprobes]" for mapping in mappings(pid))


def bpf_links():
    """Ids of the uprobe_multi links that are there, with the process that each is for."""
    tool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    output = subprocess.run([tool, "-j", "link", "list"], capture_output=True, text=True).stdout
    links = json.loads(output) if output.strip() else []
    return {link["id"]: link for link in links if isinstance(link, dict) and "id" in link}


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the zoo --------------------------------------------------------------------------------------

def zoo_programs():
    return sorted(path.stem for path in ZOO.glob("*.py") if path.stem != "zoo")


def zoo_facts(name):
    """ZOO of a program, read without running it, and the numbers of the lines marked LEAK."""
    source = (ZOO / f"{name}.py").read_text()
    facts = None
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ZOO":
            facts = ast.literal_eval(node.value)
    lines = [number for number, line in enumerate(source.splitlines(), 1)
             if line.rstrip().endswith("# LEAK")]
    return facts, lines


def function_expected(facts, minor):
    if minor < 11 and "function_before_311" in facts:
        return facts["function_before_311"]
    return facts["function"]


class ZooResult:
    """One program of the zoo under pyleakd: the report, and the truth for its end."""

    def __init__(self, name, python, mode="exact"):
        self.name, self.python, self.mode = name, python, mode
        self.facts, self.lines = zoo_facts(name)
        self.skip = None
        self.starved = False  # the machine let it fall behind its pace: no steady growth
        self.report = None
        self.truths = []

    def run(self, seconds=11):
        with tempfile.TemporaryDirectory() as directory:
            output = Path(directory) / "report.json"
            with Program(self.python, ZOO, f"{self.name}.py", "--wait",
                         "--seconds", "600") as program:
                while not program.lines:
                    assert program.read(60), "the program ended at once"
                if "skip" in program.lines[0]:
                    self.skip = program.lines[0]["skip"]
                    return self
                calls = self._observe(program, output, seconds)
                self.starved = calls[0] < 0.85 * self.facts.get("rate", 100) * seconds
            if self.facts["verdict"] == "leak":
                self._tell_truth(*calls)
        return self

    def _observe(self, program, output, seconds):
        """A session of so many seconds. The target stands still when it ends: what has leaked by
        then is known, between the calls told last before and first after.
        """
        budget = ["--budget", "5"] if self.mode == "sampled" else []
        with session("--pid", program.pid, "--mode", self.mode, *budget, "--interval", "1s",
                     "--format", "json", "--output", output,
                     stdout=subprocess.DEVNULL) as process:
            # Sampled, what is in changes all the time.
            wait_attached(program.pid, settled_seconds=0 if budget else 0.4)
            program.say("go")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                program.read(0.2)
                assert process.poll() is None, process.stderr.read()[-2000:]
            program.process.send_signal(signal.SIGSTOP)
            interrupt(process)
            try:
                process.wait(timeout=60)
            finally:
                program.read(0)
                before = len(program.lines)
                program.process.send_signal(signal.SIGCONT)
            stderr = process.stderr.read()
            assert process.returncode == 0, f"exit {process.returncode}: {stderr[-2000:]}"
        self.report = json.loads(output.read_text())
        low = max(line["calls"] for line in program.lines[:before] if "calls" in line)
        return low, program.expect("calls", after=before)["calls"]

    def _tell_truth(self, low, high):
        inside = self.python.place(ZOO)
        output = subprocess.run([*self.python.command, inside / f"{self.name}.py",
                                 "--truth", f"{low},{(low + high) // 2},{high}"],
                                capture_output=True, text=True, check=True,
                                env=environment()).stdout
        self.truths = [json.loads(line)["bytes"] for line in output.splitlines()]

    def is_marked(self, frame):
        return (os.path.basename(frame["file"]) == f"{self.name}.py"
                and frame["line"] in self.lines)

    def describe(self):
        """The first sites, for the message of a failure."""
        def place(site):
            return " < ".join("%s %s:%s" % (frame["function"], os.path.basename(frame["file"]),
                                            frame["line"]) for frame in site["stack"][:3])
        return "; ".join("%s %d bytes, %s" % (site["verdict"], site["outstanding_bytes"],
                                              place(site))
                         for site in self.report["sites"][:4])


def busy_rate(program, seconds=1.0):
    """Units of work a CPU second of a target that reports work and CPU time."""
    program.read(0)
    after = len(program.lines)
    first = program.expect("work", after=after)
    time.sleep(seconds)
    program.read(0)
    last = next(line for line in reversed(program.lines) if "work" in line)
    return (last["work"] - first["work"]) / max(last["cpu"] - first["cpu"], 1e-6)


def interrupt(process):
    process.send_signal(signal.SIGINT)
