/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Functions that can't say how much room there is, or can't say that they
 * failed: using one doesn't compile.  Included last of all headers by a .c
 * file, because system headers that come later would trip over it; or for the
 * whole tree by a check that compiles every file so.
 */
#ifndef PYLEAKD_BASE_BANNED_H
#define PYLEAKD_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#pragma GCC poison strcpy strcat strncat stpcpy strncpy
#pragma GCC poison sprintf vsprintf gets
#pragma GCC poison atoi atol atoll atof
#pragma GCC poison strtok
#pragma GCC poison asctime asctime_r ctime ctime_r

#endif
