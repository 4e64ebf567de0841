/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "idioms.h"

#include <errno.h>
#include <stdlib.h>

#include "probes/symbolic.h"
#include "probes/walk.h"

DEFINE_CLEANUP(struct symbols *, symbols_free)
DEFINE_CLEANUP(struct walk *, walk_free)

static struct symbols *new_symbols(void)
{
	struct symbols *symbols = NULL;

	assert_int_equal(symbols_new(&symbols), 0);
	return symbols;
}

/* Executes all of an idiom, straight on. */
static void execute(struct symbols *symbols, struct state *state, struct code *code)
{
	state_begin(state);
	for (size_t i = 0; i < code_count(code); i++)
		assert_int_equal(state_step(symbols, state, code, i), 0);
}

#define EXECUTE(name)                                                                              \
	CLEANUP(code_free) struct code *code = DECODE(name);                                       \
	CLEANUP(symbols_free) struct symbols *s = new_symbols();                                   \
	struct state state;                                                                        \
                                                                                                   \
	execute(s, &state, code)

static void equal_expressions_are_the_same_number(void **test)
{
	CLEANUP(symbols_free) struct symbols *s = new_symbols();
	const expr rax = symbols_initial(CODE_RAX), rbx = symbols_initial(CODE_RBX);

	(void)test;
	assert_int_equal(symbols_sum(s, symbols_sum(s, rax, 8), 8), symbols_sum(s, rax, 16));
	assert_int_equal(symbols_sum(s, symbols_sum(s, rax, 8), -8), rax);
	assert_int_equal(symbols_index(s, rax, rbx, 1), symbols_index(s, rbx, rax, 1));
	assert_int_not_equal(symbols_index(s, rax, rbx, 2), symbols_index(s, rbx, rax, 2));
	assert_int_equal(symbols_index(s, symbols_sum(s, rax, 8), rbx, 4),
			 symbols_sum(s, symbols_index(s, rax, rbx, 4), 8));
	assert_int_equal(symbols_sum(s, symbols_constant(s, 5), 3), symbols_constant(s, 8));
	assert_int_equal(symbols_index(s, rax, symbols_constant(s, 3), 4), symbols_sum(s, rax, 12));
	assert_int_not_equal(symbols_load(s, rax, 8), symbols_load(s, rax, 4));
	assert_int_equal(symbols_low(s, symbols_load(s, rax, 4)), symbols_load(s, rax, 4));
	assert_int_not_equal(symbols_low(s, symbols_load(s, rax, 8)), symbols_load(s, rax, 8));
	assert_int_equal(symbols_sum32(s, symbols_sum32(s, rax, -1), 1), symbols_low(s, rax));
	assert_int_equal(symbols_sum32(s, rax, 0xffffffff), symbols_sum32(s, rax, -1));
	assert_int_equal(symbols_and(s, symbols_constant(s, 0x1234), -0x1000),
			 symbols_constant(s, 0x1000));
}

static void unknown_values_differ_from_each_other(void **test)
{
	CLEANUP(symbols_free) struct symbols *s = new_symbols();
	const expr a = symbols_unknown(s), b = symbols_unknown(s);

	(void)test;
	assert_int_not_equal(a, b);
	assert_int_equal(expr_kind(s, a), EXPR_UNKNOWN);
	assert_int_equal(expr_kind(s, symbols_sum(s, a, 8)), EXPR_SUM);
	assert_int_not_equal(symbols_sum(s, a, 8), symbols_sum(s, b, 8));
	assert_int_equal(expr_kind(s, EXPR_NONE), EXPR_UNKNOWN);
	assert_int_equal(expr_a(s, a), EXPR_NONE);
	assert_true(expr_contains(s, symbols_load(s, symbols_sum(s, a, 8), 8), a));
	assert_false(expr_contains(s, symbols_load(s, symbols_sum(s, a, 8), 8), b));
}

static void a_full_arena_makes_unknown_values_and_no_equal_ones(void **test)
{
	CLEANUP(symbols_free) struct symbols *s = new_symbols();
	expr last = symbols_initial(CODE_RAX), first;
	unsigned made = 0;

	(void)test;
	first = symbols_load(s, last, 8);
	while (expr_kind(s, last) != EXPR_UNKNOWN) {
		last = symbols_load(s, last, 8);
		assert_true(++made < 100000);
	}
	assert_int_not_equal(symbols_constant(s, -77), symbols_constant(s, -77));
	assert_int_equal(symbols_load(s, symbols_initial(CODE_RAX), 8), first);
	symbols_reset(s);
	assert_int_equal(symbols_constant(s, -77), symbols_constant(s, -77));
}

IDIOM(forward, "mov rax, [rdi+8]\n"
	       "mov [rsi], rax\n"
	       "mov rdx, [rsi]\n"
	       "mov rcx, [rdi+8]\n"
	       "mov ebx, [rsi]");

static void loads_are_forwarded_from_stores(void **test)
{
	EXECUTE(forward);
	const expr loaded = symbols_load(s, symbols_sum(s, symbols_initial(CODE_RDI), 8), 8);

	(void)test;
	assert_int_equal(state.registers[CODE_RAX], loaded);
	assert_int_equal(state.registers[CODE_RDX], loaded);
	assert_int_equal(state.registers[CODE_RCX], loaded);
	assert_int_equal(state.registers[CODE_RBX], symbols_low(s, loaded));
}

IDIOM(overlap, "mov [rsi], rax\n"
	       "mov dword ptr [rsi+4], 7\n"
	       "mov rdx, [rsi]\n"
	       "mov ecx, [rsi+4]\n"
	       "mov rbx, [rsi+8]");

static void a_load_of_what_was_overwritten_in_part_is_unknown(void **test)
{
	EXECUTE(overlap);

	(void)test;
	assert_int_equal(expr_kind(s, state.registers[CODE_RDX]), EXPR_UNKNOWN);
	assert_true(expr_is_constant(s, state.registers[CODE_RCX], 7));
	assert_int_equal(state.registers[CODE_RBX],
			 symbols_load(s, symbols_sum(s, symbols_initial(CODE_RSI), 8), 8));
}

IDIOM(vector, "mov [rsi+8], rax\n"
	      "movups [rsi], xmm0\n"
	      "mov rdx, [rsi+8]");

static void a_vector_store_overwrites_all_that_it_covers(void **test)
{
	EXECUTE(vector);

	(void)test;
	assert_int_equal(expr_kind(s, state.registers[CODE_RDX]), EXPR_UNKNOWN);
}

IDIOM(call, "push rbx\n"
	    "mov [rdi], rbx\n"
	    "mov r12, rax\n"
	    "call 1f\n"
	    "1: mov rcx, [rbp]\n"
	    "mov rdx, [rdi]\n"
	    "pop rsi");

static void a_call_keeps_the_frame_and_the_saved_registers_only(void **test)
{
	EXECUTE(call);

	(void)test;
	assert_int_equal(expr_kind(s, state.registers[CODE_RAX]), EXPR_UNKNOWN);
	assert_int_equal(state.registers[12], symbols_initial(CODE_RAX));
	assert_int_equal(state.registers[CODE_RSI], symbols_initial(CODE_RBX));
	assert_int_equal(state.registers[CODE_RSP], symbols_initial(CODE_RSP));
	/* What was stored elsewhere happened, but may have changed since. */
	assert_non_null(state_store_find(&state, symbols_initial(CODE_RDI), 8));
	assert_int_equal(state_memory(s, &state, symbols_initial(CODE_RDI), 8),
			 symbols_load(s, symbols_initial(CODE_RDI), 8));
}

IDIOM(counts, "mov ecx, [rdi]\n"
	      "sub ecx, 1\n"
	      "mov [rdi], ecx\n"
	      "mov edx, [rsi]\n"
	      "lea edx, [rdx-1]\n"
	      "mov [rsi], edx\n"
	      "dec dword ptr [r8]\n"
	      "mov ebx, [r9]\n"
	      "add ebx, 0xffffffff\n"
	      "mov [r9], ebx");

static void all_ways_to_count_down_are_one_expression(void **test)
{
	static const unsigned counters[] = {CODE_RDI, CODE_RSI, 8, 9};
	EXECUTE(counts);

	(void)test;
	for (unsigned i = 0; i < ARRAY_SIZE(counters); i++) {
		const expr address = symbols_initial(counters[i]);
		const struct state_store *store = state_store_find(&state, address, 4);

		assert_non_null(store);
		assert_int_equal(store->value, symbols_sum32(s, symbols_load(s, address, 4), -1));
	}
}

IDIOM(partial, "mov al, 5\n"
	       "mov bx, 5\n"
	       "mov ecx, ecx\n"
	       "xor edx, edx\n"
	       "cmove rsi, rdi\n"
	       "xchg r8, r9");

static void what_is_written_in_part_is_unknown(void **test)
{
	EXECUTE(partial);

	(void)test;
	assert_int_equal(expr_kind(s, state.registers[CODE_RAX]), EXPR_UNKNOWN);
	assert_int_equal(expr_kind(s, state.registers[CODE_RBX]), EXPR_UNKNOWN);
	assert_int_equal(state.registers[CODE_RCX], symbols_low(s, symbols_initial(CODE_RCX)));
	assert_true(expr_is_constant(s, state.registers[CODE_RDX], 0));
	assert_int_equal(expr_kind(s, state.registers[CODE_RSI]), EXPR_UNKNOWN);
	assert_int_equal(state.registers[8], symbols_initial(9));
	assert_int_equal(state.registers[9], symbols_initial(8));
}

IDIOM(zero_test, "test rax, rax\n"
		 "mov rbx, 5\n"
		 "lea rcx, [rbx]\n"
		 "not rdx\n"
		 "movzx esi, dil");
IDIOM(zero_compare, "cmp qword ptr [rdi], 0");
IDIOM(zero_lost, "test rax, rax\n"
		 "bsf rcx, rdx");
IDIOM(zero_mask, "test rax, rbx");

static void the_flags_say_of_what_they_are(void **test)
{
	(void)test;
	{
		EXECUTE(zero_test);
		assert_int_equal(state.flags, FLAGS_ZERO);
		assert_int_equal(state.flags_a, symbols_initial(CODE_RAX));
		assert_int_equal(state.flags_size_bytes, 8);
	}
	{
		EXECUTE(zero_compare);
		assert_int_equal(state.flags, FLAGS_ZERO);
		assert_int_equal(state.flags_a, symbols_load(s, symbols_initial(CODE_RDI), 8));
	}
	{
		EXECUTE(zero_lost);
		assert_int_equal(state.flags, FLAGS_UNKNOWN);
	}
	{
		EXECUTE(zero_mask);
		assert_int_equal(state.flags, FLAGS_UNKNOWN);
	}
}

IDIOM(names, "mov [rsp+0x18], rdi\n"
	     "mov rdi, 1\n"
	     "mov [rbp-8], rsi\n"
	     "mov rsi, 1\n"
	     "lea r8, [r9+0x20]\n"
	     "mov r9, 1\n"
	     "mov r10, 1\n"
	     "mov rbx, [rsp+0x40]\n"
	     "mov rcx, rbx\n"
	     "mov rbx, 1\n"
	     "mov rcx, 1\n"
	     "mov [rsp+0x50], r11\n"
	     "mov [rsp+0x50], r10\n"
	     "mov r11, 1");

static void values_are_named_by_what_is_in_the_registers(void **test)
{
	EXECUTE(names);
	struct state_name name;

	(void)test;
	assert_int_equal(state_name_of(s, &state, symbols_initial(CODE_RDX), &name), 0);
	assert_true(name.reg == CODE_RDX && !name.memory && name.displacement == 0);
	assert_int_equal(state_name_of(s, &state, symbols_initial(CODE_RDI), &name), 0);
	assert_true(name.reg == CODE_RSP && name.memory && name.displacement == 0x18);
	assert_int_equal(state_name_of(s, &state, symbols_initial(CODE_RSI), &name), 0);
	assert_true(name.reg == CODE_RBP && name.memory && name.displacement == -8);
	assert_int_equal(state_name_of(s, &state, symbols_initial(9), &name), 0);
	assert_true(name.reg == 8 && !name.memory && name.displacement == -0x20);
	/* Gone from everywhere. */
	assert_int_equal(state_name_of(s, &state, symbols_initial(10), &name), -ENOENT);
	/* Its slot was overwritten. */
	assert_int_equal(state_name_of(s, &state, symbols_initial(11), &name), -ENOENT);
	/* Never stored on the path, but loaded from its slot. */
	assert_int_equal(
		state_name_of(s, &state,
			      symbols_load(s, symbols_sum(s, symbols_initial(CODE_RSP), 0x40), 8),
			      &name),
		0);
	assert_true(name.reg == CODE_RSP && name.memory && name.displacement == 0x40);
}

IDIOM(popped, "push rdi\n"
	      "mov rdi, 1\n"
	      "pop rax\n"
	      "mov rax, 1");

static void what_was_popped_is_no_name(void **test)
{
	EXECUTE(popped);
	struct state_name name;

	(void)test;
	assert_int_equal(state_name_of(s, &state, symbols_initial(CODE_RDI), &name), -ENOENT);
}

/* --- paths ------------------------------------------------------------------------------------ */

IDIOM(paths, "nop\n"
	     "je 1f\n"
	     "mov eax, 1\n"
	     "jmp 3f\n"
	     "1: jb 2f\n"
	     "mov eax, 2\n"
	     "jmp 3f\n"
	     "2: mov eax, 3\n"
	     "3: js 4f\n"
	     "4: ret");

struct visits {
	unsigned conditionals;
	unsigned values; /* a bit a value of eax at the last jump */
};

static void at_conditional(struct walk *walk, struct walk_path *path, void *context)
{
	struct visits *visits = context;
	const expr rax = path->state.registers[CODE_RAX];

	visits->conditionals++;
	if (expr_kind(walk->symbols, rax) == EXPR_CONSTANT)
		visits->values |= 1U << expr_value(walk->symbols, rax);
}

static const struct walk_visitor visitor = {.conditional = at_conditional};

static struct visits walk_paths(const struct walk_limits *limits, size_t pivot)
{
	CLEANUP(code_free) struct code *code = DECODE(paths);
	CLEANUP(walk_free) struct walk *walk = NULL;
	struct visits visits = {0};

	assert_int_equal(walk_new(code, &walk), 0);
	assert_int_equal(walk_run(walk, 0, pivot, limits, &visitor, &visits), 0);
	return visits;
}

static void every_path_has_a_state_of_its_own(void **test)
{
	const struct walk_limits limits = {20, 5, 5, 1000};
	const struct visits visits = walk_paths(&limits, 0);

	(void)test;
	assert_int_equal(visits.values, 1U << 1 | 1U << 2 | 1U << 3);
	assert_int_equal(visits.conditionals, 5);
}

static void paths_split_behind_the_pivot_only(void **test)
{
	const struct walk_limits limits = {20, 5, 5, 1000};

	(void)test;
	assert_int_equal(walk_paths(&limits, CODE_NONE).values, 1U << 1);
}

static void walks_are_bounded(void **test)
{
	const struct walk_limits no_forks = {20, 0, 5, 1000};
	const struct walk_limits no_branches = {20, 0, 0, 1000};
	const struct walk_limits few_steps = {2, 5, 5, 1000};

	(void)test;
	assert_int_equal(walk_paths(&no_forks, 0).values, 1U << 1);
	assert_int_equal(walk_paths(&no_branches, 0).conditionals, 1);
	assert_int_equal(walk_paths(&few_steps, 0).conditionals, 1);
}

IDIOM(endless, "1: mov [rax+rcx], rdx\n"
	       "add rax, 8\n"
	       "jmp 1b");

static void a_loop_ends_when_the_path_is_long_enough(void **test)
{
	CLEANUP(code_free) struct code *code = DECODE(endless);
	CLEANUP(walk_free) struct walk *walk = NULL;
	const struct walk_limits limits = {100000, 5, 5, 100000};
	struct visits visits = {0};

	(void)test;
	assert_int_equal(walk_new(code, &walk), 0);
	assert_int_equal(walk_run(walk, 0, 0, &limits, &visitor, &visits), 0);
	assert_int_equal(walk->path.state.n_stores, STATE_STORES_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_expressions_are_the_same_number),
		cmocka_unit_test(unknown_values_differ_from_each_other),
		cmocka_unit_test(a_full_arena_makes_unknown_values_and_no_equal_ones),
		cmocka_unit_test(loads_are_forwarded_from_stores),
		cmocka_unit_test(a_load_of_what_was_overwritten_in_part_is_unknown),
		cmocka_unit_test(a_vector_store_overwrites_all_that_it_covers),
		cmocka_unit_test(a_call_keeps_the_frame_and_the_saved_registers_only),
		cmocka_unit_test(all_ways_to_count_down_are_one_expression),
		cmocka_unit_test(what_is_written_in_part_is_unknown),
		cmocka_unit_test(the_flags_say_of_what_they_are),
		cmocka_unit_test(values_are_named_by_what_is_in_the_registers),
		cmocka_unit_test(what_was_popped_is_no_name),
		cmocka_unit_test(every_path_has_a_state_of_its_own),
		cmocka_unit_test(paths_split_behind_the_pivot_only),
		cmocka_unit_test(walks_are_bounded),
		cmocka_unit_test(a_loop_ends_when_the_path_is_long_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
