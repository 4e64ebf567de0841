/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Probes on the real kernel, in a child whose instructions, registers and
 * memory are known: what arrives in the ring is held against what the
 * processor itself did.  As root; built and run by test_capture.py.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "capture/capture.h"

/* clang-format off */
/*
 * sites_run(values, flags): all registers but rsp from values[16], the flags,
 * and then sixteen conditional jumps, one for each condition, to where they
 * go anyway.  Stores rsp to values[4].
 */
__asm__(
	".pushsection .text\n"
	".globl sites_run\n.type sites_run, @function\nsites_run:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	push %rsi\n"
	"	mov %rsp, %rax; add $8, %rax; mov %rax, 32(%rdi)\n"
	"	mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n"
	"	mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
	"	mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
	"	mov (%rdi), %rax; mov 56(%rdi), %rdi\n"
	"	popf\n"
	".globl sites\nsites:\n"
	"	.byte 0x70,0, 0x71,0, 0x72,0, 0x73,0, 0x74,0, 0x75,0, 0x76,0, 0x77,0\n"
	"	.byte 0x78,0, 0x79,0, 0x7a,0, 0x7b,0, 0x7c,0, 0x7d,0, 0x7e,0, 0x7f,0\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	cld; ret\n"
	/* Which of the sixteen conditions hold, by the processor's own word. */
	".globl conditions_of\n.type conditions_of, @function\nconditions_of:\n"
	"	xor %eax, %eax; push %rdi; popf\n"
	"	.irp cc, g, le, ge, l, np, p, ns, s, a, be, ne, e, ae, b, no, o\n"
	"	set\\cc %al\n"
	"	lea (%rax), %rdx\n"
	"	movzbl %dl, %edx\n"
	"	rorx $63, %rcx, %rcx\n" /* shifts left by one without touching the flags */
	"	lea (%rcx,%rdx), %rcx\n"
	"	.endr\n"
	"	movzwl %cx, %eax; ret\n"
	/* What no probe may be put on, or the kernel refuses. */
	".globl odd_sites\nodd_sites:\n"
	"	.byte 0x0f,0x1f,0x44,0x00,0x00\n" /* a 5-byte NOP */
	"	.byte 0x66,0x74,0x00\n" /* je with a prefix */
	"	.byte 0x2e,0x74,0x00\n" /* je with another */
	"	ret\n"
	".popsection\n");
/* clang-format on */

void sites_run(uint64_t values[static 16], uint64_t flags);
unsigned conditions_of(uint64_t flags);
extern const uint8_t sites[], odd_sites[];

#define FLAGS_BASE 0x202u /* interrupts on, as always in user space */
#define POOL_BYTES 16384
#define FRAMES 5

/* What parent and child share: the memory that the child's probes refer to. */
static struct shared {
	uint64_t values[16];
	uint64_t flags;
	uint64_t result;
	/* An invented interpreter, as 3.11 would have it. */
	uint64_t tstate_current;
	uint64_t tstate[32];
	uint64_t cframe[2];
	uint8_t data_stack[FRAMES][96];
	uint8_t pool[POOL_BYTES] __attribute__((aligned(POOL_BYTES)));
} * shared;

static const struct capture_stack_layout layout = {
	.minor = 11,
	.tstate_frame = 56,
	.cframe_current_frame = 8,
	.tstate_thread_id = 152,
	.frame_code = 32,
	.frame_previous = 48,
	.frame_position = 56,
	.frame_position_bytes = 8,
	.frame_owner = 69,
	.object_type = 8,
	.pool_size = POOL_BYTES,
};

/* Its allocator is not glibc's, and it maps memory by itself. */
#ifdef __SANITIZE_ADDRESS__
#define NOT_UNDER_ASAN() skip()
#else
#define NOT_UNDER_ASAN() ((void)0)
#endif

/* --- the child ---------------------------------------------------------------------------- */

/* Programs can't fault pages in: what they read has to be there, as it is in an allocator. */
static void touch(void)
{
	for (size_t i = 0; i < sizeof(*shared); i += 4096)
		(void)((volatile uint8_t *)shared)[i];
}

static void do_run(void)
{
	touch();
	sites_run(shared->values, shared->flags);
}

static void do_run_often(void)
{
	for (int i = 0; i < 20000; i++)
		sites_run(shared->values, shared->flags);
}

static void *run_in_thread(void *unused)
{
	(void)unused;
	do_run();
	return NULL;
}

static void do_run_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run_in_thread, NULL) == 0)
		pthread_join(thread, NULL);
}

static void do_run_forked(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		do_run();
		_exit(0);
	}
	shared->result = (uint64_t)pid;
	waitpid(pid, NULL, 0);
}

static void do_mappings(void)
{
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *pages = mremap(page, 4096, 12288, MREMAP_MAYMOVE);

	shared->values[0] = (uint64_t)page;
	shared->values[1] = (uint64_t)pages;
	munmap(pages, 12288);
	munmap((void *)1, 4096); /* fails: not aligned */
	shared->values[2] = (uint64_t)sbrk(65536);
	shared->values[3] = (uint64_t)sbrk(0);
}

static void do_change_text(void)
{
	uintptr_t page = (uintptr_t)sites & ~4095UL;

	mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
	((uint8_t *)(uintptr_t)sites)[2] = 0x70; /* the second site: jno becomes jo */
	mprotect((void *)page, 8192, PROT_READ | PROT_EXEC);
}

static void do_exec(void)
{
	execl("/bin/true", "true", NULL);
	_exit(1);
}

static void do_exit(void)
{
	_exit(0);
}

static void (*const commands[])(void) = {
	do_run,	     do_run_often,   do_run_thread, do_run_forked,
	do_mappings, do_change_text, do_exec,	    do_exit,
};

static pid_t child = -1;
static int to_child = -1, from_child = -1;

static void __attribute__((noreturn)) child_main(int in, int out)
{
	unsigned char command;

	while (read(in, &command, 1) == 1) {
		commands[command]();
		if (write(out, &command, 1) != 1)
			break;
	}
	_exit(0);
}

/* Leaves it a zombie. */
static void wait_for_end(void)
{
	siginfo_t info;

	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
}

/* Returns when the child is through with it, or gone. */
static void tell(void (*what)(void))
{
	for (unsigned char i = 0; i < ARRAY_SIZE(commands); i++) {
		unsigned char answer;

		if (commands[i] != what)
			continue;
		assert_int_equal(write(to_child, &i, 1), 1);
		if (read(from_child, &answer, 1) < 0)
			fail();
	}
}

/* --- plans --------------------------------------------------------------------------------- */

static struct plan_site plan_sites[32];
static struct plan plan;
static uint64_t text_bias, text_offset; /* address = offset + bias */

static void find_text(void)
{
	_cleanup_fclose_ FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long start, end, offset;

		if (sscanf(line, "%lx-%lx %*4s %lx", &start, &end, &offset) == 3 &&
		    (uintptr_t)sites >= start && (uintptr_t)sites < end) {
			text_bias = start;
			text_offset = offset;
		}
	}
}

/* Adds a site at this address; the vaddr is chosen so that the bias matters. */
static struct plan_site *plan_add(const uint8_t *at, uint8_t length, uint8_t kind, uint8_t reg,
				  uint8_t value)
{
	struct plan_site *site = &plan_sites[plan.n_sites++];

	*site = (struct plan_site){
		.vaddr = (uintptr_t)at - text_bias,
		.offset = (uintptr_t)at - text_bias + text_offset,
		.kind = kind,
		.reg = reg,
		.value = value,
		.condition = WIRE_CONDITION_ALWAYS,
		.length = length,
	};
	memcpy(site->bytes, at, length);
	return site;
}

static struct plan_site *plan_jump(unsigned which, uint8_t kind, uint8_t reg, uint8_t value)
{
	return plan_add(sites + 2 * which, 2, kind, reg, value);
}

/* --- what arrives --------------------------------------------------------------------------- */

#define RECORDS_MAX 4096
#define RECORD_BYTES 4096

static struct {
	union {
		struct wire_header header;
		struct wire_free free;
		struct wire_alloc alloc;
		struct wire_create create;
		struct wire_realloc realloc;
		struct wire_mapping mapping;
		struct wire_process process;
		struct wire_stack stack;
	};
	uint8_t room[2048];
} * records;
static size_t n_records;

static struct capture *capture;

static void take(void *context, const struct wire_header *record, size_t size)
{
	(void)context;
	assert_true(size <= sizeof(*records));
	if (n_records < RECORDS_MAX)
		memcpy(&records[n_records], record, size);
	n_records++;
}

static void consume_all(void)
{
	n_records = 0;
	while (capture_consume(capture, take, NULL, SIZE_MAX) > 0)
		;
	assert_int_equal(capture_consumed(capture), capture_produced(capture));
}

static size_t refused(enum reason reason)
{
	const struct capture_refusal *refusals;
	size_t n = capture_refusals(capture, &refusals);
	size_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		if (refusals[i].reason == reason)
			sum += refusals[i].sites;
	}
	return sum;
}

static struct capture_counters counters(void)
{
	struct capture_counters sum;

	assert_int_equal(capture_counters(capture, &sum), 0);
	return sum;
}

static void probe_with(size_t ring_bytes, bool native)
{
	const struct capture_file file = {
		.plan = &plan, .path = "/proc/self/exe", .bias = text_bias};
	struct capture_options options = {
		.pid = child,
		.files = &file,
		.n_files = 1,
		.layout = layout,
		.ring_bytes = ring_bytes,
		.native = native,
		/* All of our own text passes for the interpreter's. */
		.interpreter_start = text_bias,
		.interpreter_end = text_bias + (1 << 20),
	};
	struct fault fault = {0};
	int r;

	plan.sites = plan_sites;
	options.layout.tstate_current_address = (uintptr_t)&shared->tstate_current;
	r = capture_prepare(&options, &capture, &fault);
	if (r == 0)
		r = capture_load(capture, &fault);
	if (r == 0)
		r = capture_attach(capture, &fault);
	if (r < 0)
		fail_msg("%s: %s (%d)", reason_sentence(fault.reason),
			 fault.field ? fault.field : "", r);
	assert_int_equal(capture_activate(capture), 0);
}

static void probe(void)
{
	probe_with(0, false);
	assert_int_equal(capture_attached_sites(capture), plan.n_sites);
	assert_int_equal(refused(REASON_BREAKPOINT_MISSING), 0);
}

static int start(void **state)
{
	int in[2], out[2];

	(void)state;
	plan = (struct plan){0};
	memset(plan_sites, 0, sizeof(plan_sites));
	memset(shared, 0, sizeof(*shared));
	shared->flags = FLAGS_BASE;
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return -1;
	child = fork();
	if (child == 0) {
		close(in[1]);
		close(out[0]);
		child_main(in[0], out[1]);
	}
	close(in[0]);
	close(out[1]);
	to_child = in[1];
	from_child = out[0];
	return child < 0 ? -1 : 0;
}

static int stop(void **state)
{
	(void)state;
	capture_free(capture);
	capture = NULL;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(to_child);
	close(from_child);
	return 0;
}

/* --- registers, flags, values --------------------------------------------------------------- */

static void every_register_is_read_by_its_number(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		shared->values[i] = 0x1000000000000ULL * (i + 1) + 0x1230 + i;
		plan_jump(i, SITE_FREE, (uint8_t)i, VALUE_REGISTER)->displacement =
			(int16_t)(8 * (int)i - 64);
	}
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 16);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(records[i].header.kind, WIRE_FREE);
		assert_int_equal(records[i].header.site, i);
		assert_int_equal(records[i].header.tid, child);
		assert_int_equal(records[i].free.address,
				 shared->values[i] + (uint64_t)(8 * (int64_t)i - 64));
	}
	assert_int_equal(counters().hits[SITE_FREE], 16);
}

static void conditions_hold_where_the_processor_says_so(void **state)
{
	static const uint32_t bits[] = {0x001, 0x004, 0x040, 0x080, 0x800};

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		shared->values[7] = 0x1000;
		plan_jump(i, SITE_FREE, 7, VALUE_REGISTER)->condition = (uint8_t)i;
	}
	probe();
	for (unsigned combination = 0; combination < 32; combination++) {
		unsigned seen = 0;

		shared->flags = FLAGS_BASE;
		for (unsigned i = 0; i < 5; i++)
			shared->flags |= combination >> i & 1 ? bits[i] : 0;
		tell(do_run);
		consume_all();
		for (size_t i = 0; i < n_records; i++)
			seen |= 1u << records[i].header.site;
		assert_int_equal(seen, conditions_of(shared->flags));
	}
}

static void pools_are_found_in_every_way(void **state)
{
	const uint64_t pool = (uintptr_t)shared->pool;
	const uint32_t class = 4; /* 80 bytes */

	(void)state;
	memcpy(shared->pool + 0x24, &class, sizeof(class));
	*(uint64_t *)(shared->pool + 8) = pool + 48 + 160; /* freeblock */
	*(uint64_t *)(shared->pool + 512) = pool;
	shared->values[3] = pool;
	shared->values[6] = pool + 528;
	/* A fresh pool's class is in a register, only later in its header. */
	shared->values[10] = 0xffffffff00000000 | class;
	plan_jump(0, SITE_FRESH, 3, VALUE_POOL_FIRST);
	plan_jump(1, SITE_FRESH, 6, VALUE_POOL_FIRST_MEMORY)->displacement = -16;
	plan_jump(2, SITE_FRESH, 3, VALUE_POOL_BY_ZF);
	plan_jump(3, SITE_FRESH, 6, VALUE_POOL_BY_ZF_MEMORY)->displacement = -16;
	plan_jump(4, SITE_ALLOC, 3, VALUE_MEMORY)->displacement = 8;
	plan_jump(5, SITE_ALLOC, 3, VALUE_REGISTER)->displacement = 128;
	for (unsigned i = 1; i < 4; i++)
		plan_sites[i].size_register = 1 + 10;
	probe();
	for (unsigned zf = 0; zf < 2; zf++) {
		const uint64_t expected[] = {
			pool + 48,
			pool + 48,
			zf ? pool + 208 : pool + 48,
			zf ? pool + 208 : pool + 48,
			pool + 208,
			pool + 128,
		};

		shared->flags = FLAGS_BASE | (zf ? 0x40 : 0);
		tell(do_run);
		consume_all();
		assert_int_equal(n_records, 6);
		for (unsigned i = 0; i < 6; i++) {
			assert_int_equal(records[i].header.kind, WIRE_ALLOC);
			assert_int_equal(records[i].header.flags,
					 i == 0	 ? WIRE_FRESH_POOL | WIRE_SIZE_UNKNOWN
					 : i < 4 ? WIRE_FRESH_POOL
						 : 0);
			assert_int_equal(records[i].alloc.address, expected[i]);
			assert_int_equal(records[i].alloc.size, i == 0 ? 0 : 80);
			assert_int_equal(records[i].alloc.stack, WIRE_STACK_NONE);
		}
	}
}

static void what_cannot_be_read_is_counted(void **state)
{
	struct capture_counters now;

	(void)state;
	shared->values[1] = 0x1000; /* mapped nowhere */
	plan_jump(0, SITE_ALLOC, 1, VALUE_MEMORY);
	plan_jump(1, SITE_ALLOC, 1, VALUE_REGISTER); /* its pool is not there */
	plan_jump(2, SITE_CREATE, 1, VALUE_REGISTER);
	shared->tstate_current = 0x1000;
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 2);
	assert_int_equal(records[0].alloc.size, 0);
	assert_int_equal(records[0].header.flags, WIRE_SIZE_UNKNOWN);
	assert_int_equal(records[0].alloc.stack, WIRE_STACK_UNREADABLE);
	assert_int_equal(records[1].create.type, 0);
	assert_int_equal(records[1].header.flags, WIRE_TYPE_UNKNOWN);
	now = counters();
	assert_int_equal(now.losses[WIRE_LOSS_BLOCK_UNREADABLE], 1);
	assert_int_equal(now.losses[WIRE_LOSS_SIZE_UNREADABLE], 1);
	assert_int_equal(now.losses[WIRE_LOSS_THREAD_STATE_UNREADABLE], 2);
}

/* --- stacks --------------------------------------------------------------------------------- */

static void invent_stack(void)
{
	uint64_t previous = 0;

	for (unsigned i = FRAMES; i-- > 0;) {
		uint8_t *frame = shared->data_stack[FRAMES - 1 - i];

		*(uint64_t *)(frame + 32) = 0x10000 + i * 0x100;
		*(uint64_t *)(frame + 48) = previous;
		*(uint64_t *)(frame + 56) = 0x20000 + i * 0x10;
		previous = (uintptr_t)frame;
	}
	shared->cframe[1] = previous;
	shared->tstate[7] = (uintptr_t)shared->cframe;
	shared->tstate_current = (uintptr_t)shared->tstate;
}

static void assert_stack_record(size_t at, uint64_t id)
{
	assert_int_equal(records[at].header.kind, WIRE_STACK);
	assert_int_equal(records[at].stack.id, id);
	assert_int_equal(records[at].stack.n_frames, FRAMES);
	assert_int_equal(records[at].stack.flags, 0);
	for (unsigned i = 0; i < FRAMES; i++) {
		assert_int_equal(records[at].stack.frames[i].code, 0x10000 + i * 0x100);
		assert_int_equal(records[at].stack.frames[i].position, 0x20000 + i * 0x10);
	}
}

static void a_stack_is_sent_once_and_before_it_is_used(void **state)
{
	uint64_t object[2] = {1, 0xabcd0};
	uint64_t id;

	(void)state;
	memcpy(shared->pool + 4096, object, sizeof(object));
	shared->values[1] = (uintptr_t)shared->pool + 4096;
	plan_jump(0, SITE_CREATE, 1, VALUE_REGISTER);
	plan_jump(1, SITE_CREATE, 1, VALUE_REGISTER);
	invent_stack();
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 3);
	id = records[1].create.stack;
	assert_true(id >= WIRE_STACK_FIRST);
	assert_stack_record(0, id);
	assert_int_equal(records[1].create.type, 0xabcd0);
	assert_int_equal(records[2].create.stack, id);
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 2);
	assert_int_equal(records[1].create.stack, id);
	/* Forgotten, it is sent again, by another name. */
	assert_int_equal(capture_forget_stacks(capture), 0);
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 3);
	assert_int_not_equal(records[1].create.stack, id);
	assert_stack_record(0, records[1].create.stack);
}

/* --- the C library -------------------------------------------------------------------------- */

/* The child was forked from us, so that our chunks are its chunks. */
static void chunks_have_their_usable_size(void **state)
{
	NOT_UNDER_ASAN();
	void *blocks[] = {malloc(1), malloc(24), malloc(25), malloc(1000), malloc(1 << 20)};

	(void)state;
	stop(NULL);
	start(NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++) {
		shared->values[8 + i] = (uintptr_t)blocks[i];
		/* Six registers are pushed between the return address and the sites. */
		plan_jump(i, SITE_NATIVE_ALLOC, (uint8_t)(8 + i), VALUE_REGISTER)->return_slot =
			i & 1 ? 1 + 6 : 0;
	}
	plan_jump(14, SITE_NATIVE_ALLOC, 0, VALUE_REGISTER); /* NULL: a malloc that failed */
	plan_jump(15, SITE_NATIVE_FREE, 0, VALUE_REGISTER);  /* free(NULL) */
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, ARRAY_SIZE(blocks));
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++) {
		assert_int_equal(records[i].header.kind, WIRE_NATIVE_ALLOC);
		assert_int_equal(records[i].header.flags, i & 1 ? WIRE_FROM_INTERPRETER : 0);
		assert_int_equal(records[i].alloc.address, (uintptr_t)blocks[i]);
		assert_int_equal(records[i].alloc.size, malloc_usable_size(blocks[i]));
		free(blocks[i]);
	}
	assert_int_equal(counters().hits[SITE_NATIVE_ALLOC], ARRAY_SIZE(blocks) + 1);
	assert_int_equal(counters().hits[SITE_NATIVE_FREE], 1);
}

static void a_realloc_knows_its_old_address(void **state)
{
	const uint64_t size = 0x61;

	(void)state;
	memcpy(shared->pool + 504, &size, sizeof(size));
	shared->values[7] = 0x700000;
	shared->values[0] = (uintptr_t)shared->pool + 512;
	plan_jump(0, SITE_REALLOC_ENTER, 7, VALUE_REGISTER);
	plan_jump(1, SITE_REALLOC_RETURN, 0, VALUE_REGISTER);
	plan_jump(2, SITE_REALLOC_RETURN, 0, VALUE_REGISTER); /* its entry was not seen */
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 2);
	assert_int_equal(records[0].header.kind, WIRE_NATIVE_REALLOC);
	assert_int_equal(records[0].realloc.old_address, 0x700000);
	assert_int_equal(records[0].realloc.address, (uintptr_t)shared->pool + 512);
	assert_int_equal(records[0].realloc.size, 0x60 - 8);
	assert_int_equal(records[1].realloc.old_address, 0);
}

static void mappings_are_seen_with_what_they_were(void **state)
{
	(void)state;
	NOT_UNDER_ASAN();
	probe_with(0, true);
	tell(do_mappings);
	consume_all();
	assert_int_equal(n_records, 4);
	assert_int_equal(records[0].header.kind, WIRE_MMAP);
	assert_int_equal(records[0].mapping.address, shared->values[0]);
	assert_int_equal(records[0].mapping.size, 4096);
	assert_int_equal(records[0].mapping.protection, PROT_READ);
	assert_int_equal(records[0].mapping.map_flags, MAP_PRIVATE | MAP_ANONYMOUS);
	assert_int_equal(records[1].header.kind, WIRE_MREMAP);
	assert_int_equal(records[1].mapping.old_address, shared->values[0]);
	assert_int_equal(records[1].mapping.old_size, 4096);
	assert_int_equal(records[1].mapping.address, shared->values[1]);
	assert_int_equal(records[1].mapping.size, 12288);
	assert_int_equal(records[2].header.kind, WIRE_MUNMAP);
	assert_int_equal(records[2].mapping.address, shared->values[1]);
	assert_int_equal(records[2].mapping.size, 12288);
	assert_int_equal(records[3].header.kind, WIRE_BRK);
	assert_int_equal(records[3].mapping.old_address, shared->values[2]);
	assert_int_equal(records[3].mapping.address, shared->values[3]);
	assert_int_equal(counters().mappings, 4);
}

/* --- whose hits ------------------------------------------------------------------------------ */

static void all_threads_are_seen_and_no_child_is(void **state)
{
	(void)state;
	shared->values[1] = 0x1000;
	plan_jump(0, SITE_FREE, 1, VALUE_REGISTER);
	probe();
	tell(do_run_thread);
	consume_all();
	assert_int_equal(n_records, 1);
	assert_int_not_equal(records[0].header.tid, child);
	tell(do_run_forked);
	consume_all();
	assert_int_equal(n_records, 1);
	assert_int_equal(records[0].header.kind, WIRE_FORK);
	assert_int_equal(records[0].header.tid, child);
	assert_int_equal(records[0].process.pid, shared->result);
}

static void nothing_is_seen_before_it_is_active_or_after(void **state)
{
	(void)state;
	shared->values[1] = 0x1000;
	plan_jump(0, SITE_FREE, 1, VALUE_REGISTER);
	probe();
	for (int round = 0; round < 3; round++) {
		capture_deactivate(capture);
		tell(do_run);
		consume_all();
		assert_int_equal(n_records, 0);
		capture_activate(capture);
		tell(do_run);
		consume_all();
		assert_int_equal(n_records, 1);
		capture_detach(capture);
		assert_int_equal(capture_attached_sites(capture), 0);
		tell(do_run);
		assert_int_equal(capture_attach(capture, NULL), 0);
		assert_int_equal(capture_attached_sites(capture), 1);
	}
}

static void exec_and_exit_are_told(void **state)
{
	(void)state;
	probe_with(0, false);
	tell(do_exec);
	wait_for_end();
	consume_all();
	assert_int_equal(n_records, 2);
	assert_int_equal(records[0].header.kind, WIRE_EXEC);
	assert_int_equal(records[1].header.kind, WIRE_EXIT);
	assert_int_equal(records[1].process.pid, child);
}

/* --- guards ---------------------------------------------------------------------------------- */

static void read_text(uint8_t ret[static 32])
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	_cleanup_close_ int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, ret, 32, (off_t)(uintptr_t)sites), 32);
}

static void unsafe_and_refused_sites_are_dropped_and_the_rest_goes_in(void **state)
{
	uint8_t text[32];

	(void)state;
	shared->values[1] = 0x1000;
	for (unsigned i = 0; i < 16; i++)
		plan_jump(i, SITE_FREE, 1, VALUE_REGISTER);
	plan_add(odd_sites, 5, SITE_FREE, 1, VALUE_REGISTER);
	plan_add(odd_sites + 5, 3, SITE_FREE, 1, VALUE_REGISTER); /* by the kernel */
	plan_add(odd_sites + 8, 3, SITE_FREE, 1, VALUE_REGISTER);
	plan_jump(3, SITE_FREE, 1, VALUE_REGISTER)->bytes[1] = 1; /* not what the file has */
	probe_with(0, false);
	assert_int_equal(refused(REASON_UNSAFE_INSTRUCTION), 2);
	assert_int_equal(refused(REASON_KERNEL_REFUSED_SITE), 1);
	assert_int_equal(refused(REASON_BUILD_CHANGED), 1);
	assert_int_equal(refused(REASON_BREAKPOINT_MISSING), 0);
	assert_int_equal(capture_attached_sites(capture), 16);
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 16);
	capture_detach(capture);
	read_text(text);
	assert_memory_equal(text, sites, 32);
}

static void text_that_was_changed_is_left_alone(void **state)
{
	(void)state;
	shared->values[1] = 0x1000;
	for (unsigned i = 0; i < 3; i++)
		plan_jump(i, SITE_FREE, 1, VALUE_REGISTER);
	tell(do_change_text);
	probe_with(0, false);
	assert_int_equal(refused(REASON_TEXT_DIFFERS), 1);
	assert_int_equal(capture_attached_sites(capture), 2);
	/* The count is of the last attach, not of all. */
	assert_int_equal(capture_attach(capture, NULL), 0);
	assert_int_equal(refused(REASON_TEXT_DIFFERS), 1);
}

static void a_process_that_is_gone_is_refused(void **state)
{
	const struct capture_options options = {.pid = child, .layout = layout};
	struct fault fault = {0};

	(void)state;
	tell(do_exit);
	wait_for_end();
	assert_int_equal(capture_prepare(&options, &capture, &fault), -EOWNERDEAD);
	assert_int_equal(fault.reason, REASON_NO_LEADER);
	assert_null(capture);
	waitpid(child, NULL, 0);
	assert_int_equal(capture_prepare(&options, &capture, &fault), -ESRCH);
}

/* --- the ring -------------------------------------------------------------------------------- */

static void a_full_ring_loses_and_counts(void **state)
{
	struct capture_counters now;
	size_t delivered = 0;
	int r;

	(void)state;
	shared->values[1] = 0x1000;
	plan_jump(0, SITE_FREE, 1, VALUE_REGISTER);
	probe_with(64 << 10, false);
	tell(do_run_often);
	now = counters();
	assert_int_equal(now.hits[SITE_FREE], 20000);
	assert_true(now.losses[WIRE_LOSS_RING_FULL] > 0);
	/* In portions. */
	n_records = 0;
	while ((r = capture_consume(capture, take, NULL, 100)) > 0) {
		assert_in_range(r, 1, 100);
		delivered += (size_t)r;
	}
	assert_int_equal(r, 0);
	assert_int_equal(delivered, n_records);
	assert_int_equal(delivered + now.losses[WIRE_LOSS_RING_FULL], 20000);
	assert_int_equal(counters().malformed, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(every_register_is_read_by_its_number),
		TEST(conditions_hold_where_the_processor_says_so),
		TEST(pools_are_found_in_every_way),
		TEST(what_cannot_be_read_is_counted),
		TEST(a_stack_is_sent_once_and_before_it_is_used),
		TEST(chunks_have_their_usable_size),
		TEST(a_realloc_knows_its_old_address),
		TEST(mappings_are_seen_with_what_they_were),
		TEST(all_threads_are_seen_and_no_child_is),
		TEST(nothing_is_seen_before_it_is_active_or_after),
		TEST(exec_and_exit_are_told),
		TEST(unsafe_and_refused_sites_are_dropped_and_the_rest_goes_in),
		TEST(text_that_was_changed_is_left_alone),
		TEST(a_process_that_is_gone_is_refused),
		TEST(a_full_ring_loses_and_counts),
	};

	shared = mmap(NULL, sizeof(*shared) + POOL_BYTES, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	shared = (void *)(((uintptr_t)shared + POOL_BYTES - 1) & ~(uintptr_t)(POOL_BYTES - 1));
	records = calloc(RECORDS_MAX, sizeof(*records));
	find_text();
	return records && text_bias ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
