/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Prints where functions are in a file's code according to its DWARF: a line
 * for each copy, inlined or not, "NAME inlined|function START-END ...", in
 * hexadecimal.  An oracle for probe plans that knows nothing of ours.  The
 * name * stands for all functions that are not inlined.
 *
 *	inlined DEBUGFILE NAME...
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 256 /* of nested DIEs */

struct names {
	char **names;
	int n;
};

static bool is_wanted(const struct names *names, const char *name, int tag)
{
	for (int i = 0; name && i < names->n; i++)
		if (strcmp(names->names[i], name) == 0 ||
		    (tag == DW_TAG_subprogram && strcmp(names->names[i], "*") == 0))
			return true;
	return false;
}

/* A DIE's own name, or that of the abstract function of which it is a copy. */
static const char *name_of(Dwarf_Die *die)
{
	Dwarf_Attribute attribute;

	return dwarf_formstring(dwarf_attr_integrate(die, DW_AT_name, &attribute));
}

static void print_ranges(Dwarf_Die *die, const char *name)
{
	const bool inlined = dwarf_tag(die) == DW_TAG_inlined_subroutine;
	Dwarf_Addr base, start, end;
	ptrdiff_t at = 0;
	bool any = false;

	while ((at = dwarf_ranges(die, at, &base, &start, &end)) > 0) {
		if (!any)
			printf("%s %s", name, inlined ? "inlined" : "function");
		any = true;
		printf(" %llx-%llx", (unsigned long long)start, (unsigned long long)end);
	}
	if (any)
		putchar('\n');
}

static void visit(Dwarf_Die *die, const struct names *names, unsigned depth)
{
	Dwarf_Die child;

	do {
		const int tag = dwarf_tag(die);

		if (tag == DW_TAG_inlined_subroutine || tag == DW_TAG_subprogram) {
			const char *name = name_of(die);

			if (is_wanted(names, name, tag))
				print_ranges(die, name);
		}
		if (depth < DEPTH_MAX && dwarf_child(die, &child) == 0)
			visit(&child, names, depth + 1);
	} while (dwarf_siblingof(die, die) == 0);
}

static int visit_units(Dwarf *dwarf, const struct names *names)
{
	Dwarf_Off offset = 0, next;
	size_t header;
	int result;

	while ((result = dwarf_nextcu(dwarf, offset, &next, &header, NULL, NULL, NULL)) == 0) {
		Dwarf_Die unit;

		if (dwarf_offdie(dwarf, offset + header, &unit))
			visit(&unit, names, 0);
		offset = next;
	}
	return result < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct names names = {argv + 2, argc - 2};
	Dwarf *dwarf;
	int fd, result;

	if (argc < 3) {
		fprintf(stderr, "usage: inlined DEBUGFILE NAME...\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	dwarf = fd < 0 ? NULL : dwarf_begin(fd, DWARF_C_READ);
	if (!dwarf) {
		fprintf(stderr, "inlined: %s: %s\n", argv[1],
			fd < 0 ? strerror(errno) : dwarf_errmsg(-1));
		return EXIT_FAILURE;
	}
	result = visit_units(dwarf, &names);
	if (result)
		fprintf(stderr, "inlined: %s: %s\n", argv[1], dwarf_errmsg(-1));
	dwarf_end(dwarf);
	close(fd);
	return result ? EXIT_FAILURE : EXIT_SUCCESS;
}
