# SPDX-License-Identifier: MIT OR GPL-2.0
"""Programs that the kernel does not take: the report says why and what to do, and watches."""

import ctypes
import errno
import resource
import struct

import pytest

import support
from support import Program, TARGETS, pyleakd, report_of

pytestmark = pytest.mark.needs("pyleakd", "root", "btf", "uprobe-multi", "stock-3.11")

SYS_BPF = 321  # x86-64
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x00050000, 0x7fff0000


def deny_bpf(error):
    """A container's filter of system calls, as its runtime installs it."""
    program = b"".join(struct.pack("HBBI", *row) for row in [
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, SYS_BPF),  # is it bpf()?
        (0x06, 0, 0, SECCOMP_RET_ERRNO | error),
        (0x06, 0, 0, SECCOMP_RET_ALLOW)])
    held = ctypes.create_string_buffer(program)
    filter_ = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8,
                                                      ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def why_refused(target, **options):
    """The one reason for which there are no probes; the heap is watched all the same."""
    result = pyleakd("-mexact", "--pid", target.pid, "--duration", "1s", "--format", "json",
                     **options)
    report = report_of(result)
    assert report["session"]["mode"] == "watch", report["refused"]
    assert report["totals"]["python_live_blocks"] > 10000
    assert support.text_differences(target.pid) == []
    whys = [row["why"] for row in report["refused"] if row["what"] == "probes"]
    assert len(whys) == 1, report["refused"]
    return whys[0]


@pytest.fixture
def target(stock):
    with Program(stock, TARGETS, "busy.py", "--sleep") as program:
        program.expect("work")
        yield program


@pytest.mark.parametrize("error,words", [
    (errno.EPERM, ["CAP_BPF", "CAP_PERFMON"]),
    (errno.ENOSYS, ["ENOSYS", "CONFIG_BPF_SYSCALL", "seccomp"]),
    (errno.ENOMEM, ["ENOMEM", "memory.max"]),
], ids=["EPERM", "ENOSYS", "ENOMEM"])
def test_a_filter_of_system_calls_is_told_by_its_error(target, error, words):
    why = why_refused(target, preexec_fn=lambda: deny_bpf(error))
    assert all(word in why for word in words), why


def test_a_ring_that_finds_no_room_in_the_address_space_is_told_as_that(target):
    """The kernel has made the ring, 64 MiB, and does not map it: 128 MiB."""
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (120 << 20, 120 << 20))

    why = why_refused(target, preexec_fn=limit)
    for word in ("mapping the ring", "ENOMEM", "ulimit -v", "PYLEAKD_RING_BYTES"):
        assert word in why, why
    assert "lacks" not in why, why
    smaller = support.environment(PYLEAKD_RING_BYTES=str(1 << 20))
    report = report_of(pyleakd("-mexact", "--pid", target.pid, "--duration", "1s", "--format",
                               "json", preexec_fn=limit, env=smaller))
    assert report["session"]["mode"] == "exact", report["refused"]  # the remedy is one
