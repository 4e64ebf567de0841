#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR GPL-2.0
"""compile_commands.json out of what `make -Bn` says it would run (standard input)."""

import json
import os
import shlex
import sys


def entries(lines):
    for line in lines:
        words = shlex.split(line, comments=False) if line.strip() else []
        sources = [word for word in words if word.endswith(".c")]
        if len(sources) == 1 and "-o" in words and "-Iinclude" in words:
            yield {"directory": os.getcwd(), "file": sources[0], "arguments": words}


def main():
    joined = sys.stdin.read().replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if " -o " in line and "'" not in line[:1]]
    json.dump(list(entries(lines)), sys.stdout, indent=1)
    print()


main()
