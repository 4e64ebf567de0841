/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * An interpreter as a few texts, and back: what was found in the image and
 * confirmed in the target, so that a recorded memory can be read without
 * either.  The texts of a recording are foreign: bounds are checked on the way
 * back, so that whoever reads through the layout is as safe as with our own.
 *
 *	interpreter.version   3.11.2          interpreter.allocator  pymalloc
 *	interpreter.layout    pool_size_bytes=16384 … object_type=8 …
 *	interpreter.symbols   _PyRuntime=10936512 PyCode_Type=9553920
 */
#ifndef PYLEAKD_CPYTHON_RECORDED_H
#define PYLEAKD_CPYTHON_RECORDED_H

#include "cpython/interpreter.h"

#define RECORDED_TEXT_BYTES 4096 /* that a value takes at most, NUL included */

/*
 * Hands each text to put, whose errors are returned. Reads the target where
 * thread states are looked for. -E2BIG: a value is longer than it may be.
 */
int interpreter_save(const struct interpreter *interpreter,
		     int (*put)(void *context, const char *key, const char *value), void *context);

/*
 * get returns a key's text, or NULL. The interpreter has no image, and of
 * symbols those that a report needs; memory stays the caller's and must
 * outlive it. -EBADMSG: a text is missing (NOT_FOUND), malformed or out of
 * bounds, reterr_fault->field says which. -EOPNOTSUPP: of a version that is
 * not supported.
 */
int interpreter_restore(const char *(*get)(void *context, const char *key), void *context,
			struct memory *memory, struct interpreter **ret,
			struct fault *reterr_fault);

#endif
