/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "target/place.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void unit_and_container_are_read_from_the_group(void **state)
{
	static const struct {
		const char *cgroup, *unit, *container;
	} cases[] = {
		{"0::/system.slice/web.service\n", "web.service", ""},
		{"0::/\n", "", ""},
		{"", "", ""},
		{"0::/user.slice/user-0.slice/session-3.scope", "session-3.scope", ""},
		{"0::/user.slice/user@0.service/app.slice/web.service\n", "web.service", ""},
		{"0::/system.slice/docker-" ID ".scope\n", "", ID},
		{"0::/docker/" ID "\n", "", ID},
		{"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" ID ".scope\n", "", ID},
		{"0::/system.slice/docker.service/" ID "/init.scope\n", "init.scope", ID},
		/* Version 1: any of its lines; version 2's before them. */
		{"9:pids:/system.slice/old.service\n0::/system.slice/new.service\n", "new.service",
		 ""},
		{"0::/system.slice/new.service\n9:pids:/system.slice/old.service\n", "new.service",
		 ""},
		{"4:memory:/docker/" ID "\n0::/\n", "", ID},
		/* Not ids: too short, too long, not hexadecimal. */
		{"0::/docker/0123abcd\n", "", ""},
		{"0::/docker/" ID "0\n", "", ""},
		{"0::/docker/x" ID "\n", "", ""},
		/* Foreign bytes, and lines that are none. */
		{"0::/a\033b.service\n", "a?b.service", ""},
		{"nonsense\n::\n:\n0::\n", "", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct place place;

		place_of_text(cases[i].cgroup, &place);
		if (strcmp(place.unit, cases[i].unit) != 0 ||
		    strcmp(place.container, cases[i].container) != 0)
			fail_msg("%s: '%s' '%s'", cases[i].cgroup, place.unit, place.container);
	}
}

static void long_names_are_cut(void **state)
{
	static char text[2000];
	struct place place;

	(void)state;
	snprintf(text, sizeof(text), "0::/%01000d.service\n", 0);
	place_of_text(text, &place);
	assert_int_equal(strlen(place.unit), PLACE_NAME_MAX - 1);
}

static void a_process_that_is_gone_has_no_place(void **state)
{
	struct place place;

	(void)state;
	assert_int_equal(place_of(0x3fffff, &place), -ESRCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unit_and_container_are_read_from_the_group),
		cmocka_unit_test(long_names_are_cut),
		cmocka_unit_test(a_process_that_is_gone_has_no_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
