# SPDX-License-Identifier: MIT OR GPL-2.0
"""Interpreters inside one process; then it waits.

    interpreters N    all of them, the main one included
    states N          that have a pymalloc of their own
"""
import sys

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

FILL = "kept = [[n] for n in range(30000)]"
run = getattr(interpreters, "exec", None) or interpreters.run_string
isolated = [interpreters.create() for _ in range(3)]
sharing = []
if sys.version_info >= (3, 13):
    sharing.append(interpreters.create("legacy"))
elif sys.version_info >= (3, 12):
    sharing.append(interpreters.create(isolated=False))
for interpreter in isolated + sharing:
    run(interpreter, FILL)

print("interpreters", 1 + len(isolated) + len(sharing))
print("states", 1 + len(isolated) if sys.version_info >= (3, 12) else 1)
sys.stdout.flush()
sys.stdin.readline()
