/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "base/reasons.h"

/*
 * A switch over the table: the compiler refuses a number that two rows claim,
 * and the default answers for numbers out of newer recordings.
 */
const char *reason_sentence(enum reason reason)
{
	switch ((unsigned)reason) {
#define REASON_CASE(number, name, label, sentence)                                                 \
	case number:                                                                               \
		return sentence;
		REASONS(REASON_CASE)
#undef REASON_CASE
	default:
		return "unknown reason";
	}
}

const char *reason_label(enum reason reason)
{
	switch ((unsigned)reason) {
#define REASON_CASE(number, name, label, sentence)                                                 \
	case number:                                                                               \
		return label;
		REASONS(REASON_CASE)
#undef REASON_CASE
	default:
		return "unknown";
	}
}
