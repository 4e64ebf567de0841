#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR GPL-2.0
"""The rules of the house that a machine can check (make lint).

    lint.py [--objects DIRECTORY] [--root DIRECTORY]

Prints a line for each breach, `path:line: what`, then the sizes of functions; exit 1 when there is
any breach. With --objects (build/obj) also what the rooms' object files call.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

FUNCTION_LINES = 70
BPF_FUNCTION_LINES = 100  # the verifier's reason: no calls into what it can't follow
FILE_LINES = 600
COLUMNS = 100
EXCEPTIONS = "tools/lint-exceptions"

# room: rooms whose headers it may include, and single headers beyond them (DESIGN.md's table)
ROOMS = {
    "base": {"base"},
    "target": {"base", "target"},
    "cpython": {"base", "cpython", "target/image.h"},
    "probes": {"base", "probes", "target/image.h", "cpython/layout.h", "cpython/interpreter.h",
               "cpython/memory.h", "pyleakd/wire.h"},
    "capture": {"base", "capture", "probes/plan.h", "target", "cpython/layout.h",
                "cpython/interpreter.h", "pyleakd/wire.h", "pyleakd/settings.h"},
    "ledger": {"base", "ledger", "pyleakd/wire.h"},
    "judge": {"base", "judge", "pyleakd/wire.h"},
    "report": {"base", "report", "ledger/ledger.h", "judge/judge.h"},
    "service": None,  # everything
}

# libraries' headers, and the rooms that may use them
LIBRARIES = {
    r"bpf/": {"capture"},
    r"(libelf|gelf|elfutils/.*|dwarf)\.h": {"target", "capture"},
    # cpython decodes the few instructions that name a thread-local offset
    r"Zydis/|Zycore/": {"probes", "cpython"},
    r"systemd/": {"service"},
    r"jansson\.h": {"report", "service"},
    r"microhttpd\.h": {"service"},
    r"sys/capability\.h": {"service", "capture"},
}

# What pure rooms (ledger, judge) and sink-only rooms (report) may not call.
SYSTEM_CALLS = {
    "open", "open64", "openat", "openat64", "fopen", "fopen64", "read", "write", "pread", "pread64",
    "pwrite", "socket", "send", "recv", "ioctl", "mmap", "mmap64", "fork", "execve", "system",
    "getpid", "gettid", "time", "gettimeofday", "clock_gettime", "nanosleep", "usleep", "sleep",
    "getenv", "secure_getenv", "syslog", "kill", "poll", "epoll_wait", "select", "process_vm_readv",
    "ptrace", "syscall", "random", "rand", "getrandom",
}
PURE = {"ledger", "judge", "report"}
PRINTING = {
    "printf", "__printf_chk", "vprintf", "__vprintf_chk", "puts", "putchar", "putc", "perror",
    "stdout", "stderr", "psignal", "err", "errx", "warn", "warnx",
}
PRINTERS = {"base/log.o"}  # and the rooms here
PRINTING_ROOMS = {"service"}

BANNED = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|atoi|atol|atof|strtok|gets)\s*\(")
POSITIVE_ERRNO = re.compile(r"\breturn\s+(\(\s*)?(E[A-Z0-9]{2,}|errno)\s*\)?\s*;")
MACHINE = re.compile(r"/work/|/root/|/home/[a-z]|\.pyenv/|/tmp/b-|"
                     r"https?://(?:deb|ftp|security|archive|snapshot)\.")
SPDX = "SPDX-License-Identifier: MIT OR GPL-2.0"
SHARED = {"include/pyleakd/wire.h", "include/pyleakd/settings.h"}
SOURCES = {".c", ".h", ".py", ".sh"}
OURSELVES = {"tools/lint.py", "tools/test_lint.py"}


def without_comments(text):
    """C with comments and the insides of literals blanked; lines stay where they are."""
    def blank(match):
        found = match.group(0)
        if found.startswith("/"):
            return re.sub(r"[^\n]", " ", found)
        return found[0] + " " * (len(found) - 2) + found[-1]

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, text,
                  flags=re.DOTALL)


def tracked(root):
    """What git has, or would take: generated files are not read."""
    output = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"],
                            capture_output=True, text=True, check=True).stdout
    return sorted(path for path in set(output.splitlines()) if (root / path).is_file())


class Lint:
    def __init__(self, root):
        self.root = root
        self.breaches = []
        self.exceptions = self.read_exceptions()
        self.used = set()

    def breach(self, path, line, what):
        self.breaches.append((path, line, what))

    # --- sizes -------------------------------------------------------------------------------

    def read_exceptions(self):
        """Lines `path[:function] size`: the size may not be exceeded, and must still be needed."""
        found = {}
        file = self.root / EXCEPTIONS
        if file.exists():
            for line in file.read_text().splitlines():
                words = line.split("#")[0].split()
                if words:
                    found[words[0]] = int(words[1])
        return found

    def size(self, path, line, name, size, allowed):
        """Compares a size with what is allowed, or with the exception for it."""
        key = f"{path}:{name}" if name else path
        limit = self.exceptions.get(key)
        what = f"{name or 'the file'} has {size} lines"
        if limit is not None:
            self.used.add(key)
        if limit is None and size > allowed:
            self.breach(path, line, f"{what}, {allowed} are allowed")
        elif limit is not None and size > limit:
            self.breach(path, line, f"{what}, its exception allows {limit}")
        elif limit is not None and size <= allowed:
            self.breach(path, line, f"{what} and needs no exception any more: take it out")
        elif limit is not None and size < limit:
            self.breach(path, line, f"{what}: lower its exception from {limit}")

    def functions(self, paths):
        """(path, line, name, lines) of every C function, by ctags."""
        if not paths:
            return []
        output = subprocess.run(
            ["ctags", "--quiet", "--languages=C", "--langmap=C:.c.h", "--kinds-C=f",
             "--fields=+ne", "--output-format=json", "-f", "-", *paths],
            cwd=self.root, capture_output=True, text=True, check=True).stdout
        tags = [json.loads(line) for line in output.splitlines()]
        return [(tag["path"], tag["line"], tag["name"], tag["end"] - tag["line"] + 1)
                for tag in tags if tag.get("end")]

    def sizes(self, paths):
        code = [path for path in paths if Path(path).suffix in (".c", ".h")
                and not path.startswith("vmlinux/")]
        functions = self.functions(code)
        for path, line, name, size in functions:
            allowed = BPF_FUNCTION_LINES if path.startswith("bpf/") else FUNCTION_LINES
            self.size(path, line, name, size, allowed)
        for path in code:
            size = len((self.root / path).read_text(errors="replace").splitlines())
            self.size(path, 1, None, size, FILE_LINES)
        for key in sorted(set(self.exceptions) - self.used):
            self.breach(EXCEPTIONS, 1, f"{key} is not there any more")
        return [size for path, _, _, size in functions if path.startswith(("src/", "bpf/"))]

    # --- include edges -----------------------------------------------------------------------

    def includes(self, path, text):
        room = path.split("/")[1]
        allowed = ROOMS.get(room)
        if room not in ROOMS:
            self.breach(path, 1, f"no room is called {room}")
            return
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^">]+)[">]', line)
            if not match:
                continue
            header = match.group(2)
            for pattern, rooms in LIBRARIES.items():
                if re.match(pattern, header) and room not in rooms:
                    self.breach(path, number, f"{header} is not for {room}")
            if match.group(1) == '"' and allowed is not None and "/" in header:
                if header.split("/")[0] not in allowed and header not in allowed:
                    self.breach(path, number, f"{room} may not include {header}")

    # --- text --------------------------------------------------------------------------------

    def c_text(self, path, text):
        code = without_comments(text)
        for number, line in enumerate(code.splitlines(), 1):
            match = BANNED.search(line)
            if match and path != "src/base/banned.h":
                self.breach(path, number, f"{match.group(1)} is banned")
            if path.startswith("src/") and POSITIVE_ERRNO.search(line):
                self.breach(path, number, "an errno is returned with a positive sign")

    def any_text(self, path, text):
        suffix = Path(path).suffix
        if suffix in SOURCES and SPDX not in "\n".join(text.splitlines()[:3]):
            self.breach(path, 1, "no SPDX line")
        for number, line in enumerate(text.splitlines(), 1):
            if path not in OURSELVES and MACHINE.search(line):
                self.breach(path, number, f"a path or host of one machine: {line.strip()[:60]}")
            if suffix in SOURCES and len(line.expandtabs(8)) > COLUMNS:
                self.breach(path, number, f"longer than {COLUMNS} columns")
            if suffix in SOURCES and line != line.rstrip():
                self.breach(path, number, "white space at the end")

    # --- objects -----------------------------------------------------------------------------

    def objects(self, directory):
        """What the rooms' compiled files refer to: no macro hides it."""
        files = sorted(Path(directory).glob("*/*.o"))
        if not files:
            self.breach(str(directory), 1, "no object files: build first")
        for file in files:
            room, name = file.parent.name, f"{file.parent.name}/{file.name}"
            # Objects of sources that are gone are nobody's.
            source = f"src/{room}/{file.stem}.c"
            if not (self.root / source).exists():
                continue
            output = subprocess.run(["nm", "-u", file], capture_output=True, text=True).stdout
            symbols = {line.split()[-1].split("@")[0] for line in output.splitlines() if line}
            if room in PURE:
                for symbol in sorted(symbols & SYSTEM_CALLS):
                    self.breach(source, 1, f"{room} is pure, but calls {symbol}")
            if name not in PRINTERS and room not in PRINTING_ROOMS:
                for symbol in sorted(symbols & PRINTING):
                    self.breach(source, 1, f"a library prints: {symbol}")

    # --- all of it ---------------------------------------------------------------------------

    def run(self, objects=None):
        paths = tracked(self.root)
        for path in paths:
            try:
                text = (self.root / path).read_text()
            except UnicodeDecodeError:
                continue  # seeds and recordings
            self.any_text(path, text)
            if Path(path).suffix in (".c", ".h"):
                self.c_text(path, text)
            if re.match(r"src/[^/]+/[^/]+\.[ch]$", path):
                self.includes(path, text)
            if path.startswith("include/") and path not in SHARED:
                self.breach(path, 1, "only what BPF and the daemon share belongs here")
        sizes = self.sizes(paths)
        if objects:
            self.objects(objects)
        return sizes


def summary(sizes):
    if len(sizes) < 2:
        return "no functions"
    ninth = statistics.quantiles(sizes, n=10)[8]
    return (f"{len(sizes)} functions: median {statistics.median(sizes):.0f} lines, "
            f"nine in ten up to {ninth:.0f}, longest {max(sizes)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--objects", type=Path)
    options = parser.parse_args()
    lint = Lint(options.root)
    sizes = lint.run(options.objects)
    for path, line, what in sorted(lint.breaches):
        print(f"{path}:{line}: {what}")
    print(f"lint: {len(lint.breaches)} breaches; {summary(sizes)}", file=sys.stderr)
    return 1 if lint.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
