# SPDX-License-Identifier: MIT OR GPL-2.0
"""Targets in unusual places: namespaces of their own, files without section headers or symbols."""

import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

import support
from support import Program, TARGETS, pyleakd, report_of

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

# Blocks of pymalloc and of the C library, by the first thread and by another one.
THREADS = """
import os, threading, time
kept = []
def leak_of_thread():
    kept.append({'row': [len(kept)]})
def leak_of_main():
    kept.append([len(kept), str(len(kept))])
def leak_native():
    kept.append(b'x' * 5000)
def work():
    while True:
        leak_of_thread()
        time.sleep(0.003)
threading.Thread(target=work, daemon=True).start()
print(os.getpid(), threading.get_native_id(), flush=True)
while True:
    leak_of_main()
    leak_native()
    time.sleep(0.005)
"""


def callers(report, function):
    """Bytes that the report holds for a function, by who called it."""
    result = {}
    for site in report["sites"]:
        names = [frame["function"] for frame in site["stack"]]
        if names and names[0] == function:
            result[names[1]] = result.get(names[1], 0) + site["outstanding_bytes"]
    return result


# --- namespaces -----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["debian-3.9", "debian-3.13", "debian-3.14", "debian-3.15"])
def test_a_target_in_other_pid_and_mount_namespaces_is_known_by_its_outer_pid(name, tmp_path):
    python = support.interpreter(name)
    if python is None:
        pytest.skip(f"no {name} at hand (make interpreters)")
    (tmp_path / "threads.py").write_text(THREADS)
    inside = python.place(tmp_path)
    mount_point = python.root / "proc"
    mount_point.mkdir(exist_ok=True)
    outer = support.start(["unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c",
                           f"mount -t proc proc {mount_point} && exec \"$@\"", "sh",
                           *python.command, inside / "threads.py"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = outer.stdout.readline()
        assert line, outer.stderr.read()
        assert line.split()[0] == "1", "its first process, and so its first thread"
        pid = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
        report = report_of(pyleakd("-mexact", "--pid", pid, "--duration", "5s", "--interval", "1s",
                                   "--format", "json"))
        assert report["target"]["pid"] == pid
        assert not report["refused"] and report["session"]["coverage_ratio"] > 0.999
        assert set(callers(report, "leak_of_thread")) == {"work"}
        assert set(callers(report, "leak_of_main")) == {"<module>"}
        native = callers(report, "leak_native")
        assert set(native) == {"<module>"} and native["<module>"] > 200 * 5000, native
        assert report["sites"][0]["verdict"] == "leak", report["sites"][0]
        assert support.text_differences(pid) == []
    finally:
        support.stop(outer)
        shutil.rmtree(python.root / inside.relative_to("/"))


# --- files ----------------------------------------------------------------------------------------

def without_section_headers(source, target):
    """A copy with program headers only, as the most thorough strippers leave it."""
    image = bytearray(Path(source).read_bytes())
    assert image[:6] == b"\x7fELF\x02\x01"
    headers, = struct.unpack_from("<Q", image, 0x28)  # e_shoff
    struct.pack_into("<Q", image, 0x28, 0)
    struct.pack_into("<HHH", image, 0x3a, 0, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    target.write_bytes(image[:headers])
    target.chmod(0o755)


def without_python_symbols(source, target):
    """A copy whose dynamic symbols have other names, which is as good as none."""
    image = Path(source).read_bytes()
    for name in (b"_PyRuntime", b"Py_Version"):
        assert image.count(b"\0" + name + b"\0") == 1
        image = image.replace(b"\0" + name + b"\0", b"\0" + name[:-1] + b"_\0")
    target.write_bytes(image)
    target.chmod(0o755)


def sites_line(pid):
    text = pyleakd("check", "--pid", pid).stdout
    return next(line for line in text.splitlines() if line.startswith("probe sites"))


def test_an_interpreter_without_section_headers_is_probed_as_well(stock, tmp_path):
    copy = tmp_path / "python3.11"
    without_section_headers(stock.elf, copy)
    target = support.start([copy, TARGETS / "busy.py", "--sleep"], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE)
    try:
        assert target.stdout.readline()
        with Program(stock, TARGETS, "busy.py", "--sleep") as whole:
            whole.expect("ready")
            assert sites_line(target.pid) == sites_line(whole.pid)
        report = report_of(pyleakd("-mexact", "--pid", target.pid, "--duration", "2s",
                                   "--interval", "500ms",
                                   "--format", "json"))
        assert not report["refused"] and report["session"]["events"] > 1000
        assert report["session"]["coverage_ratio"] > 0.99
        assert support.text_differences(target.pid) == []
    finally:
        support.stop(target)


def test_an_interpreter_without_symbols_is_refused_in_one_line(stock, tmp_path):
    copy = tmp_path / "python3.11\x1b[2J\n"
    without_python_symbols(stock.elf, copy)
    target = support.start([copy, "-c", "import time; print('up', flush=True); time.sleep(60)"],
                           stdout=subprocess.PIPE)
    try:
        assert target.stdout.readline()
        time.sleep(0.1)
        result = pyleakd("-mexact", "--pid", target.pid, "--duration", "1s")
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
        assert "python3.11" in result.stderr and "symbols" in result.stderr
        assert result.stderr.strip("\n").isprintable(), result.stderr
    finally:
        support.stop(target)


# --- C libraries ----------------------------------------------------------------------------------

def why_not_native(pid):
    """The report's reason for having no native allocations; Python's own are seen all the same."""
    report = report_of(pyleakd("-mexact", "--pid", pid, "--duration", "2s", "--interval", "500ms",
                               "--format", "json"))
    assert report["session"]["events"] > 1000
    assert report["session"]["coverage_ratio"] > 0.99, report["session"]
    assert not any(site["domain"] == "native" and site["stack"][0]["function"] == "unit"
                   for site in report["sites"])
    return [refused["why"] for refused in report["refused"]
            if refused["what"] == "native allocations"]


def start_busy(command, **environment):
    return support.start([*command, TARGETS / "busy.py", "--sleep"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, env=support.environment(**environment))


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", ["libjemalloc.so.2", "ld-musl-x86_64.so.1"])
def test_an_allocator_whose_blocks_are_not_known_is_named(stock, tmp_path, name):
    library = tmp_path / name
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", library, "-"], check=True,
                   input=b"int nothing(void) { return 0; }")
    target = start_busy(stock.command, LD_PRELOAD=str(library))
    try:
        assert target.stdout.readline()
        assert [name in why for why in why_not_native(target.pid)] == [True]
    finally:
        support.stop(target)


def test_a_c_library_that_is_not_found_is_told(stock, tmp_path):
    """As in a program that has its C library inside: none is mapped under its name."""
    loader = next(mapping.path for mapping in support.mappings("self") if "/ld-" in mapping.path)
    libc = next(mapping.path for mapping in support.mappings("self") if "/libc.so" in mapping.path)
    shutil.copy(libc, tmp_path / "inside")
    (tmp_path / "libc.so.6").symlink_to("inside")
    target = start_busy([loader, "--library-path", tmp_path, *stock.command])
    try:
        assert target.stdout.readline()
        assert ["C library" in why for why in why_not_native(target.pid)] == [True]
    finally:
        support.stop(target)
