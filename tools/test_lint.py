# SPDX-License-Identifier: MIT OR GPL-2.0
"""The lint finds what it is for, and nothing else: small trees with one breach each."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("lint", HERE / "lint.py")
lint = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lint)

HEAD = "/* SPDX-License-Identifier: MIT OR GPL-2.0 */\n"


@pytest.fixture
def tree(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)

    def write(path, text, head=HEAD):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(head + text)
        return tmp_path

    write("src/base/fine.c", "int fine(void)\n{\n\treturn 0;\n}\n")
    return write


def breaches(root, **options):
    checker = lint.Lint(root)
    checker.run(**options)
    return [f"{path}: {what}" for path, _, what in checker.breaches]


def function(name, lines):
    return f"int {name}(void)\n{{\n" + "\t;\n" * (lines - 4) + "\treturn 0;\n}\n"


def test_a_clean_tree_has_no_breach(tree):
    root = tree("src/base/other.c", '#include "base/fine.h"\n')
    assert breaches(root) == []


@pytest.mark.parametrize("room,header,allowed", [
    ("base", "target/image.h", False), ("target", "base/bytes.h", True),
    ("target", "cpython/memory.h", False), ("cpython", "target/image.h", True),
    ("cpython", "target/process.h", False), ("probes", "cpython/layout.h", True),
    ("probes", "capture/capture.h", False), ("capture", "probes/plan.h", True),
    ("ledger", "pyleakd/wire.h", True), ("ledger", "cpython/objects.h", False),
    ("judge", "ledger/ledger.h", False), ("report", "ledger/ledger.h", True),
    ("report", "service/session.h", False), ("service", "capture/capture.h", True),
])
def test_include_edges_are_held_to_the_table(tree, room, header, allowed):
    found = breaches(tree(f"src/{room}/edge.c", f'#include "{header}"\n'))
    assert (found == []) == allowed, found


@pytest.mark.parametrize("room,header,allowed", [
    ("capture", "bpf/libbpf.h", True), ("service", "bpf/libbpf.h", False),
    ("probes", "Zydis/Zydis.h", True), ("ledger", "Zydis/Zydis.h", False),
    ("service", "systemd/sd-event.h", True), ("target", "systemd/sd-event.h", False),
    ("target", "gelf.h", True), ("judge", "gelf.h", False),
])
def test_a_library_belongs_to_its_rooms(tree, room, header, allowed):
    found = breaches(tree(f"src/{room}/edge.c", f"#include <{header}>\n"))
    assert (found == []) == allowed, found


def test_a_room_that_is_not_in_the_design_is_named(tree):
    assert breaches(tree("src/cellar/x.c", "")) == ["src/cellar/x.c: no room is called cellar"]


def test_a_function_of_70_lines_is_allowed_and_one_of_71_is_not(tree):
    assert breaches(tree("src/base/long.c", function("just", 70))) == []
    assert breaches(tree("src/base/long.c", function("over", 71))) == [
        "src/base/long.c: over has 71 lines, 70 are allowed"]


def test_bpf_programs_may_have_100_lines(tree):
    assert breaches(tree("bpf/x.bpf.c", function("just", 100))) == []
    assert len(breaches(tree("bpf/x.bpf.c", function("over", 101)))) == 1


def test_a_file_may_have_600_lines(tree):
    assert breaches(tree("src/base/long.h", "\n" * 599)) == []
    assert breaches(tree("src/base/long.h", "\n" * 600)) == [
        "src/base/long.h: the file has 601 lines, 600 are allowed"]


def test_an_exception_can_only_shrink(tree):
    tree("src/base/long.c", function("over", 80))
    root = tree(lint.EXCEPTIONS, "src/base/long.c:over 80  # why\n", head="")
    assert breaches(root) == []
    tree(lint.EXCEPTIONS, "src/base/long.c:over 79\n", head="")
    assert "its exception allows 79" in breaches(root)[0]
    tree(lint.EXCEPTIONS, "src/base/long.c:over 90\n", head="")
    assert "lower its exception" in breaches(root)[0]
    tree("src/base/long.c", function("over", 60))
    assert "take it out" in breaches(root)[0]
    tree("src/base/long.c", function("renamed", 60))
    assert "is not there any more" in breaches(root)[0]


@pytest.mark.parametrize("call", ["strcpy(a, b);", "x = atoi(text);", "sprintf (a, b);",
                                  "strtok(a, b);", "gets(a);", "strcat(a, b);"])
def test_banned_functions_are_found(tree, call):
    assert len(breaches(tree("src/base/x.c", f"{call}\n"))) == 1


@pytest.mark.parametrize("text", ["/* never strcpy(a, b) */", 'say("gets(x)");', "fgets(a, 1, f);",
                                  "snprintf(a, 1, b);", "x->gets(a);", "// strtok(a)"])
def test_what_only_looks_banned_is_not(tree, text):
    assert breaches(tree("src/base/x.c", f"{text}\n")) == []


@pytest.mark.parametrize("text,good", [
    ("return -EINVAL;", True), ("return EINVAL;", False), ("return errno;", False),
    ("return -errno;", True), ("return (EIO);", False), ("return EXACT_MODE;", True),
])
def test_an_errno_is_returned_negative(tree, text, good):
    found = breaches(tree("src/base/x.c", f"\t{text}\n"))
    assert (found == []) == good, found


@pytest.mark.parametrize("text", ["/work" + "/main", "/root" + "/x", "/home" + "/someone",
                                  "http://deb" + ".example.org", "~/.pyenv" + "/versions"])
def test_paths_and_hosts_of_one_machine_are_found_in_any_file(tree, text):
    assert len(breaches(tree("docs/notes.md", text + "\n", head=""))) == 1


def test_a_file_without_its_licence_is_found(tree):
    assert breaches(tree("src/base/x.c", "int x;\n", head="")) == ["src/base/x.c: no SPDX line"]


def test_tabs_count_eight_columns(tree):
    assert breaches(tree("src/base/x.c", "\t" + "x" * 92 + "\n")) == []
    assert breaches(tree("src/base/x.c", "\t" + "x" * 93 + "\n")) == [
        "src/base/x.c: longer than 100 columns"]


def test_white_space_at_the_end_is_found(tree):
    assert len(breaches(tree("src/base/x.c", "int x; \n"))) == 1


def test_include_holds_shared_headers_only(tree):
    assert len(breaches(tree("include/pyleakd/more.h", ""))) == 1


def compiled(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(HEAD + text)
    target = root / "obj" / Path(path).relative_to("src").with_suffix(".o")
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-c", "-o", target, root / path], check=True)
    return root / "obj"


def test_a_pure_room_that_looks_at_the_clock_is_found_by_its_object(tree):
    root = tree("src/base/x.c", "")
    objects = compiled(root, "src/ledger/clock.c",
                       "#include <time.h>\nlong now(void)\n{\n\treturn time(0);\n}\n")
    assert breaches(root, objects=objects) == [
        "src/ledger/clock.c: ledger is pure, but calls time"]


def test_a_library_that_prints_is_found_under_whatever_macro(tree):
    root = tree("src/base/x.c", "")
    text = '#include <stdio.h>\n#define SAY printf\nvoid say(void)\n{\n\tSAY("hello\\n");\n}\n'
    objects = compiled(root, "src/target/say.c", text)
    assert breaches(root, objects=objects) == ["src/target/say.c: a library prints: puts"]
    compiled(root, "src/service/say.c", text)
    compiled(root, "src/base/log.c", text)
    assert len(breaches(root, objects=objects)) == 1
