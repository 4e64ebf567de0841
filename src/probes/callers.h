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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probes/decode.h"
#include "probes/match.h"
#include "target/image.h"

/*
 * Functions that return a new reference to one object, or NULL.  Not all are
 * there in each version, and those that are not exported are found only where
 * there are symbols. Cached plans name them by number: append, never renumber.
 * Core: the allocators that all types share.  One caller of theirs is one type's
 * constructor, which is to a build that inlines nothing what a creation site is
 * to others; a constructor's callers, on the other hand, make but a part of a
 * type (docs/estimator.md, Displacement).
 */
#define CALLERS_CONSTRUCTORS(X)                                                                    \
	X(_PyObject_New, true)                                                                     \
	X(_PyObject_NewVar, true)                                                                  \
	X(_PyObject_GC_New, true)                                                                  \
	X(_PyObject_GC_NewVar, true)                                                               \
	X(PyType_GenericAlloc, true)                                                               \
	X(PyDict_New, false)                                                                       \
	X(_PyDict_NewPresized, false)                                                              \
	X(_PyDict_FromItems, false)                                                                \
	X(PyDict_Copy, false)                                                                      \
	X(PyList_New, false)                                                                       \
	X(_PyList_FromArraySteal, false)                                                           \
	X(PyList_GetSlice, false)                                                                  \
	X(PyTuple_New, false)                                                                      \
	X(PyTuple_Pack, false)                                                                     \
	X(_PyTuple_FromArray, false)                                                               \
	X(_PyTuple_FromArraySteal, false)                                                          \
	X(PyList_AsTuple, false)                                                                   \
	X(PySet_New, false)                                                                        \
	X(PyLong_FromLong, false)                                                                  \
	X(PyLong_FromLongLong, false)                                                              \
	X(PyLong_FromUnsignedLong, false)                                                          \
	X(PyLong_FromUnsignedLongLong, false)                                                      \
	X(PyLong_FromSsize_t, false)                                                               \
	X(PyLong_FromSize_t, false)                                                                \
	X(PyLong_FromDouble, false)                                                                \
	X(_PyLong_New, false)                                                                      \
	X(_PyLong_Add, false)                                                                      \
	X(_PyLong_Subtract, false)                                                                 \
	X(_PyLong_Multiply, false)                                                                 \
	X(PyFloat_FromDouble, false)                                                               \
	X(PyComplex_FromCComplex, false)                                                           \
	X(PyUnicode_New, false)                                                                    \
	X(PyUnicode_FromString, false)                                                             \
	X(PyUnicode_FromStringAndSize, false)                                                      \
	X(PyUnicode_FromFormat, false)                                                             \
	X(PyUnicode_Concat, false)                                                                 \
	X(PyUnicode_Substring, false)                                                              \
	X(_PyUnicode_FromASCII, false)                                                             \
	X(_PyUnicode_JoinArray, false)                                                             \
	X(PyBytes_FromString, false)                                                               \
	X(PyBytes_FromStringAndSize, false)                                                        \
	X(PyByteArray_FromStringAndSize, false)                                                    \
	X(PyCell_New, false)                                                                       \
	X(PyMethod_New, false)                                                                     \
	X(PyCMethod_New, false)                                                                    \
	X(PyFunction_New, false)                                                                   \
	X(PyFunction_NewWithQualName, false)                                                       \
	X(PySlice_New, false)                                                                      \
	X(PyMemoryView_FromObject, false)

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

/* The same of all of CALLERS_CONSTRUCTORS that the image has, or of the core. */
int match_callers(struct code *code, const struct image *image, bool core, struct matches *matches);

#endif
