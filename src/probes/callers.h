/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Callers: the check for NULL behind a call of a constructor.
 *
 *	call PyDict_New          the object is in rax
 *	mov  r12, rax            straight on, nothing jumps into it from elsewhere
 *	test rax, rax
 *	je   error               ← the site: not taken, rax and r12 are the object
 *
 * Where nothing is inlined, all objects pass one creation, which is always hot;
 * of its callers' sites nearly all are cold.  A constructor may return what was
 * there before (small integers, the empty tuple): who takes the hit has to look
 * at the reference count, which is 1 for what is new.
 */
#ifndef PYLEAKD_PROBES_CALLERS_H
#define PYLEAKD_PROBES_CALLERS_H

#include <stddef.h>
#include <stdint.h>

#include "probes/decode.h"
#include "probes/match.h"
#include "target/image.h"

/*
 * Functions that return a new reference to one object, or NULL.  Not all are
 * there in each version, and those that are not exported are found only where
 * there are symbols. Cached plans name them by number: append, never renumber.
 */
#define CALLERS_CONSTRUCTORS(X)                                                                    \
	X(_PyObject_New)                                                                           \
	X(_PyObject_NewVar)                                                                        \
	X(_PyObject_GC_New)                                                                        \
	X(_PyObject_GC_NewVar)                                                                     \
	X(PyType_GenericAlloc)                                                                     \
	X(PyDict_New)                                                                              \
	X(_PyDict_NewPresized)                                                                     \
	X(_PyDict_FromItems)                                                                       \
	X(PyDict_Copy)                                                                             \
	X(PyList_New)                                                                              \
	X(_PyList_FromArraySteal)                                                                  \
	X(PyList_GetSlice)                                                                         \
	X(PyTuple_New)                                                                             \
	X(PyTuple_Pack)                                                                            \
	X(_PyTuple_FromArray)                                                                      \
	X(_PyTuple_FromArraySteal)                                                                 \
	X(PyList_AsTuple)                                                                          \
	X(PySet_New)                                                                               \
	X(PyLong_FromLong)                                                                         \
	X(PyLong_FromLongLong)                                                                     \
	X(PyLong_FromUnsignedLong)                                                                 \
	X(PyLong_FromUnsignedLongLong)                                                             \
	X(PyLong_FromSsize_t)                                                                      \
	X(PyLong_FromSize_t)                                                                       \
	X(PyLong_FromDouble)                                                                       \
	X(_PyLong_New)                                                                             \
	X(_PyLong_Add)                                                                             \
	X(_PyLong_Subtract)                                                                        \
	X(_PyLong_Multiply)                                                                        \
	X(PyFloat_FromDouble)                                                                      \
	X(PyComplex_FromCComplex)                                                                  \
	X(PyUnicode_New)                                                                           \
	X(PyUnicode_FromString)                                                                    \
	X(PyUnicode_FromStringAndSize)                                                             \
	X(PyUnicode_FromFormat)                                                                    \
	X(PyUnicode_Concat)                                                                        \
	X(PyUnicode_Substring)                                                                     \
	X(_PyUnicode_FromASCII)                                                                    \
	X(_PyUnicode_JoinArray)                                                                    \
	X(PyBytes_FromString)                                                                      \
	X(PyBytes_FromStringAndSize)                                                               \
	X(PyByteArray_FromStringAndSize)                                                           \
	X(PyCell_New)                                                                              \
	X(PyMethod_New)                                                                            \
	X(PyCMethod_New)                                                                           \
	X(PyFunction_New)                                                                          \
	X(PyFunction_NewWithQualName)                                                              \
	X(PySlice_New)                                                                             \
	X(PyMemoryView_FromObject)

struct constructor {
	const char *name; /* static */
	uint64_t vaddr;
};

/*
 * Adds a match of SITE_CALLER for each call of theirs that is followed by its
 * check, unless another kind of site is there already.  image: where calls
 * through a PLT or a slot are resolved; NULL: direct ones alone.  constructors:
 * ascending by vaddr.
 */
int match_callers_of(struct code *code, const struct image *image,
		     const struct constructor *constructors, size_t n, struct matches *matches);

/* The same of all of CALLERS_CONSTRUCTORS that the image has. */
int match_callers(struct code *code, const struct image *image, struct matches *matches);

#endif
