# SPDX-License-Identifier: MIT OR GPL-2.0
"""malloc called through ctypes, without free, and without the GIL."""

import ctypes

import zoo

ZOO = {"verdict": "leak", "function": "leak", "native_chunks": 1}

LIBC = ctypes.CDLL(None)
LIBC.malloc.argtypes = [ctypes.c_size_t]
LIBC.malloc.restype = ctypes.c_void_p
LIBC.free.argtypes = [ctypes.c_void_p]
LIBC.free.restype = None


def leak(n):
    LIBC.malloc(600)  # LEAK


def churn(n):
    address = LIBC.malloc(600)
    LIBC.free(address)


zoo.main(globals())
