/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the malloc family leaves to others, and to each other; and the entries of free and realloc.
 */
#include <errno.h>

#include "native_idioms.h"

/* --- callees and other functions ----------------------------------------------------------- */

LIBRARY(tail, "tail_malloc: ud2\n"
	      "tail_calloc: push rbx\n"
	      "call " OUTSIDE "\n"
	      "test byte ptr [rax-8], 2\n"
	      "tail_site: je 1f\n"
	      "pop rbx\n"
	      "ret\n"
	      "1: mov rdi, rax\n"
	      "mov rdx, rbx\n"
	      "xor esi, esi\n"
	      "pop rbx\n"
	      "jmp " OUTSIDE "\n");
PLACE(tail, calloc);
PLACE(tail, site);

static void a_tail_call_of_memset_returns_the_block(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, tail);
	ENTRY(&library, tail, NATIVE_CALLOC, calloc);
	MATCH(&library);
	assert_only(&library, AT(&library, tail, site), CODE_RAX, WIRE_CONDITION_ALWAYS);
	assert_string_equal(site_at(&library, AT(&library, tail, site), 0)->function, "calloc");
}

LIBRARY(cleared, "cleared_malloc: ud2\n"
		 "cleared_calloc: push rbx\n"
		 "test rcx, rcx\n"
		 "cleared_site: js 1f\n"
		 "mov rdi, rcx\n"
		 "mov rdx, rbx\n"
		 "xor esi, esi\n"
		 "call " OUTSIDE "\n"
		 "pop rbx\n"
		 "ret\n"
		 "1: ud2\n");
PLACE(cleared, calloc);
PLACE(cleared, site);

static void a_call_of_memset_returns_the_block(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, cleared);
	ENTRY(&library, cleared, NATIVE_CALLOC, calloc);
	MATCH(&library);
	assert_only(&library, AT(&library, cleared, site), CODE_RCX, 9);
}

LIBRARY(copied, "copied_malloc: ud2\n"
		"copied_calloc: test rcx, rcx\n"
		"js 1f\n"
		"mov rdi, rcx\n"
		"mov rsi, rbx\n"
		"call " OUTSIDE "\n"
		"ret\n"
		"1: ud2\n");
PLACE(copied, calloc);

static void a_call_that_clears_nothing_is_not_taken_for_memset(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, copied);
	ENTRY(&library, copied, NATIVE_CALLOC, calloc);
	MATCH(&library);
	assert_unresolved(&library);
}

LIBRARY(resize, "resize_malloc: call " OUTSIDE "\n"
		"test rax, rax\n"
		"resize_made: js 1f\n"
		"ret\n"
		"1: ud2\n"
		"resize_realloc: push rbp\n"
		"mov rbp, rdi\n"
		"test rdi, rdi\n"
		"je 2f\n"
		"test rsi, rsi\n"
		"je 3f\n"
		"call " OUTSIDE "\n"
		"cmp rax, rsi\n"
		"resize_site: ja 4f\n"
		"pop rbp\n"
		"ret\n"
		"2: mov rdi, rsi\n"
		"pop rbp\n"
		"jmp resize_malloc\n"
		"3: call resize_free\n"
		"xor eax, eax\n"
		"pop rbp\n"
		"ret\n"
		"4: ud2\n");
PLACE(resize, made);
PLACE(resize, realloc);
PLACE(resize, site);

static void realloc_leaves_to_malloc_and_free_what_is_theirs(void **state)
{
	LIBRARY_OF library;
	const struct plan_site *made, *moved, *entry;

	(void)state;
	OPEN(&library, resize);
	ENTRY(&library, resize, NATIVE_REALLOC, realloc);
	MATCH(&library);
	assert_int_equal(library.sites.unresolved, 0);
	assert_int_equal(count_returns(&library), 2);
	made = site_at(&library, AT(&library, resize, made), 0);
	moved = site_at(&library, AT(&library, resize, site), 0);
	entry = site_at(&library, AT(&library, resize, realloc), 0);
	assert_register(made, CODE_RAX, 0);
	assert_int_equal(made->kind, SITE_NATIVE_ALLOC);
	assert_register(moved, CODE_RAX, 0);
	assert_int_equal(moved->kind, SITE_REALLOC_RETURN);
	assert_register(entry, CODE_RDI, 0);
	assert_int_equal(entry->kind, SITE_REALLOC_ENTER);
}

/* clang, and gcc since 13, jump to another function on a condition too. */
LIBRARY(sibling, "sibling_malloc: call " OUTSIDE "\n"
		 "test rax, rax\n"
		 "sibling_made: js 1f\n"
		 "ret\n"
		 "1: ud2\n"
		 "sibling_realloc: mov r9, rdi\n"
		 "test rdi, rdi\n"
		 "sibling_entry: je sibling_malloc\n"
		 "call " OUTSIDE "\n"
		 "cmp rax, rsi\n"
		 "sibling_site: ja 4f\n"
		 "ret\n"
		 "4: ud2\n");
PLACE(sibling, made);
PLACE(sibling, realloc);
PLACE(sibling, site);

static void a_conditional_jump_to_malloc_does_not_make_its_returns_reallocs(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, sibling);
	ENTRY(&library, sibling, NATIVE_REALLOC, realloc);
	MATCH(&library);
	assert_int_equal(library.sites.unresolved, 0);
	assert_int_equal(count_returns(&library), 2);
	assert_int_equal(site_at(&library, AT(&library, sibling, made), 0)->kind,
			 SITE_NATIVE_ALLOC);
	assert_null(site_at(&library, AT(&library, sibling, made), 1));
	assert_int_equal(site_at(&library, AT(&library, sibling, site), 0)->kind,
			 SITE_REALLOC_RETURN);
}

/* What both memalign and aligned_alloc jump to is no function of the unwind tables. */
LIBRARY(common, "common_malloc: ud2\n"
		"common_memalign: mov rdx, rdi\n"
		"jmp 1f\n"
		"common_aligned_alloc: mov rdx, rsi\n"
		"1: call " OUTSIDE "\n"
		"test rax, rax\n"
		"common_site: js 2f\n"
		"ret\n"
		"2: ud2\n");
PLACE(common, memalign);
PLACE(common, aligned_alloc);
PLACE(common, site);

static void code_that_two_functions_share_has_one_site(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, common);
	ENTRY(&library, common, NATIVE_MEMALIGN, memalign);
	ENTRY(&library, common, NATIVE_ALIGNED_ALLOC, aligned_alloc);
	MATCH(&library);
	assert_only(&library, AT(&library, common, site), CODE_RAX, 9);
}

LIBRARY(noreturn, "noreturn_malloc: push rbx\n"
		  "call " OUTSIDE "\n"
		  "test al, 0xf\n"
		  "noreturn_site: jne 1f\n"
		  "pop rbx\n"
		  "ret\n"
		  "1: lea rdi, [rip]\n"
		  "call " OUTSIDE "\n" /* abort() */
		  "noreturn_next: mov rax, rbp\n"
		  "pop rbx\n"
		  "ret\n");
PLACE(noreturn, site);
PLACE(noreturn, next);

static void a_call_at_a_functions_end_does_not_run_into_the_next_function(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, noreturn);
	FUNCTION(&library, noreturn, malloc);
	FUNCTION(&library, noreturn, next);
	FUNCTION(&library, noreturn, free);
	MATCH(&library);
	assert_only(&library, AT(&library, noreturn, site), CODE_RAX, CONDITION_EQUAL);
}

LIBRARY(stored, "stored_malloc: ud2\n"
		"stored_posix_memalign: push rbx\n"
		"mov rbx, rdi\n"
		"test rsi, 7\n"
		"jne 2f\n"
		"call " OUTSIDE "\n"
		"test rax, rax\n"
		"stored_site: je 1f\n"
		"mov [rbx], rax\n"
		"xor eax, eax\n"
		"pop rbx\n"
		"ret\n"
		"1: mov eax, 12\n"
		"pop rbx\n"
		"ret\n"
		"2: mov eax, 22\n"
		"pop rbx\n"
		"ret\n");
PLACE(stored, posix_memalign);
PLACE(stored, site);

static void posix_memalign_stores_its_block_and_returns_zero(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, stored);
	ENTRY(&library, stored, NATIVE_POSIX_MEMALIGN, posix_memalign);
	MATCH(&library);
	assert_only(&library, AT(&library, stored, site), CODE_RAX, CONDITION_NOT_EQUAL);
}

LIBRARY(two_stores, "two_stores_malloc: ud2\n"
		    "two_stores_posix_memalign: test rdx, rdx\n"
		    "je 1f\n"
		    "mov [rdi], rdx\n"
		    "mov [rcx+0x60], rsi\n"
		    "xor eax, eax\n"
		    "ret\n"
		    "1: mov eax, 12\n"
		    "ret\n");
PLACE(two_stores, posix_memalign);

static void of_two_stores_none_is_guessed_to_be_the_block(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, two_stores);
	ENTRY(&library, two_stores, NATIVE_POSIX_MEMALIGN, posix_memalign);
	MATCH(&library);
	assert_unresolved(&library);
}

LIBRARY(passed, "passed_malloc: ud2\n"
		"passed_memalign: call " OUTSIDE "\n"
		"test rax, rax\n"
		"passed_site: js 1f\n"
		"ret\n"
		"1: ud2\n"
		"passed_posix_memalign: push rbx\n"
		"mov rbx, rdi\n"
		"call passed_memalign\n"
		"test rax, rax\n"
		"je 2f\n"
		"mov [rbx], rax\n"
		"xor eax, eax\n"
		"2: pop rbx\n"
		"ret\n");
PLACE(passed, memalign);
PLACE(passed, posix_memalign);
PLACE(passed, site);

static void posix_memalign_hands_over_what_memalign_made(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, passed);
	ENTRY(&library, passed, NATIVE_MEMALIGN, memalign);
	ENTRY(&library, passed, NATIVE_POSIX_MEMALIGN, posix_memalign);
	MATCH(&library);
	assert_only(&library, AT(&library, passed, site), CODE_RAX, 9);
}

static size_t resolve_to_memalign(uint64_t vaddr, void *context)
{
	const struct library *library = context;

	return vaddr == IDIOM_VADDR + 0x100000 ? library->entries.at[NATIVE_MEMALIGN] : CODE_NONE;
}

LIBRARY(stub, "stub_malloc: ud2\n"
	      "stub_memalign: test rax, rax\n"
	      "stub_site: js 1f\n"
	      "ret\n"
	      "1: ud2\n"
	      "stub_posix_memalign: call " OUTSIDE "\n"
	      "test rax, rax\n"
	      "je 2f\n"
	      "mov [rbx], rax\n"
	      "xor eax, eax\n"
	      "2: ret\n");
PLACE(stub, memalign);
PLACE(stub, posix_memalign);
PLACE(stub, site);

static void a_plt_entry_is_what_it_is_bound_to(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, stub);
	ENTRY(&library, stub, NATIVE_MEMALIGN, memalign);
	ENTRY(&library, stub, NATIVE_POSIX_MEMALIGN, posix_memalign);
	library.entries.resolve = resolve_to_memalign;
	library.entries.context = &library;
	MATCH(&library);
	assert_only(&library, AT(&library, stub, site), CODE_RAX, 9);
}

/* --- entries ------------------------------------------------------------------------------- */

/* free is the last function of each library above; here it is another. */
LIBRARY(marked, "marked_malloc: ud2\n"
		"marked_entry: endbr64\n"
		"test rdi, rdi\n"
		"marked_site: je 1f\n"
		"1: ret\n");
PLACE(marked, entry);
PLACE(marked, site);

LIBRARY(moved, "moved_malloc: ud2\n"
	       "moved_entry: mov r12, rdi\n"
	       "mov rdi, [rip]\n"
	       "lea rsi, [r12-0x10]\n"
	       "moved_site: push rbx\n"
	       "ret\n");
PLACE(moved, entry);
PLACE(moved, site);

LIBRARY(gone, "gone_malloc: ud2\n"
	      "gone_entry: lea rsi, [rdi-0x10]\n"
	      "xor edi, edi\n"
	      "gone_site: push rbx\n"
	      "ret\n");
PLACE(gone, entry);

LIBRARY(looped, "looped_malloc: ud2\n"
		"looped_entry: sub rsi, 8\n"
		"looped_site: push rbx\n"
		"test rsi, rsi\n"
		"jne looped_site\n"
		"ret\n");
PLACE(looped, entry);

LIBRARY(stepped, "stepped_malloc: ud2\n"
		 "stepped_entry: sub rsp, 8\n"
		 "mov rax, [rip]\n"
		 "jmp rax\n");
PLACE(stepped, entry);

static void the_first_emulated_instruction_of_free_is_its_site(void **state)
{
	LIBRARY_OF library, other;

	(void)state;
	OPEN(&library, marked);
	ENTRY(&library, marked, NATIVE_FREE, entry);
	MATCH(&library);
	assert_int_equal(library.sites.n, 1);
	assert_register(site_at(&library, AT(&library, marked, site), 0), CODE_RDI, 0);
	assert_int_equal(library.sites.items[0].site.kind, SITE_NATIVE_FREE);
	assert_int_equal(library.sites.items[0].site.condition, WIRE_CONDITION_ALWAYS);
	OPEN(&other, moved);
	ENTRY(&other, moved, NATIVE_FREE, entry);
	MATCH(&other);
	assert_register(site_at(&other, AT(&other, moved, site), 0), 12, 0);
	assert_int_equal(other.sites.unresolved, 0);
}

static void an_entry_that_loses_the_argument_is_unresolved(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, gone);
	ENTRY(&library, gone, NATIVE_FREE, entry);
	MATCH(&library);
	assert_int_equal(library.sites.n, 0);
	assert_int_equal(library.sites.unresolved, 1);
}

static void an_instruction_that_a_loop_comes_back_to_is_no_entry(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, looped);
	ENTRY(&library, looped, NATIVE_FREE, entry);
	MATCH(&library);
	assert_int_equal(library.sites.n, 0);
	assert_int_equal(library.sites.unresolved, 1);
}

static void an_entry_that_only_single_steps_is_unresolved(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, stepped);
	ENTRY(&library, stepped, NATIVE_FREE, entry);
	MATCH(&library);
	assert_int_equal(library.sites.n, 0);
	assert_int_equal(library.sites.unresolved, 1);
}

static void without_malloc_or_free_there_is_no_plan(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, marked);
	library.entries.at[NATIVE_MALLOC] = CODE_NONE;
	assert_int_equal(native_match(library.code, &library.entries, &library.sites), -ENOENT);
	ENTRY(&library, marked, NATIVE_MALLOC, malloc);
	library.entries.at[NATIVE_FREE] = CODE_NONE;
	assert_int_equal(native_match(library.code, &library.entries, &library.sites), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tail_call_of_memset_returns_the_block),
		cmocka_unit_test(a_call_of_memset_returns_the_block),
		cmocka_unit_test(a_call_that_clears_nothing_is_not_taken_for_memset),
		cmocka_unit_test(realloc_leaves_to_malloc_and_free_what_is_theirs),
		cmocka_unit_test(a_conditional_jump_to_malloc_does_not_make_its_returns_reallocs),
		cmocka_unit_test(code_that_two_functions_share_has_one_site),
		cmocka_unit_test(a_call_at_a_functions_end_does_not_run_into_the_next_function),
		cmocka_unit_test(posix_memalign_stores_its_block_and_returns_zero),
		cmocka_unit_test(of_two_stores_none_is_guessed_to_be_the_block),
		cmocka_unit_test(posix_memalign_hands_over_what_memalign_made),
		cmocka_unit_test(a_plt_entry_is_what_it_is_bound_to),
		cmocka_unit_test(the_first_emulated_instruction_of_free_is_its_site),
		cmocka_unit_test(an_entry_that_loses_the_argument_is_unresolved),
		cmocka_unit_test(an_instruction_that_a_loop_comes_back_to_is_no_entry),
		cmocka_unit_test(an_entry_that_only_single_steps_is_unresolved),
		cmocka_unit_test(without_malloc_or_free_there_is_no_plan),
	};

	return cmocka_run_group_tests_name("native_callees", tests, NULL, NULL);
}
