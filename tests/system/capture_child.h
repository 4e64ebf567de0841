/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A child whose instructions, registers and memory are known, probed by its
 * parent on the real kernel.
 */
#ifndef TESTS_SYSTEM_CAPTURE_CHILD_H
#define TESTS_SYSTEM_CAPTURE_CHILD_H

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

/* The child's child stays until it is killed. */
static void do_fork_and_stay(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (;;)
			pause();
	}
	shared->result = (uint64_t)pid;
}

static void *run_often_in_thread(void *unused)
{
	(void)unused;
	for (int i = 0; i < 20000; i++) {
		uint64_t values[16];

		memcpy(values, shared->values, sizeof(values));
		sites_run(values, shared->flags);
	}
	return NULL;
}

static void do_run_often_in_threads(void)
{
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, run_often_in_thread, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
}

/* The break goes up, down, up to where it was, and beyond. */
static void do_breaks(void)
{
	sbrk(65536);
	shared->values[0] = (uint64_t)sbrk(0);
	sbrk(-32768);
	sbrk(32768);
	sbrk(4096);
	shared->values[1] = (uint64_t)sbrk(0);
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
	do_breaks,   do_fork_and_stay, do_run_often_in_threads,
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

static void begin(void (*what)(void))
{
	for (unsigned char i = 0; i < ARRAY_SIZE(commands); i++) {
		if (commands[i] == what)
			assert_int_equal(write(to_child, &i, 1), 1);
	}
}

/* Returns when the child is through with it, or gone. */
static void tell(void (*what)(void))
{
	unsigned char answer;

	begin(what);
	if (read(from_child, &answer, 1) < 0)
		fail();
}

static void read_text(pid_t pid, uint8_t ret[static 32])
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	_cleanup_close_ int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, ret, 32, (off_t)(uintptr_t)sites), 32);
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
static bool windows; /* sites go in by group (capture_windows.c) */

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
		.windows = windows,
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

static int capture_tests_begin(void)
{
	const size_t size = sizeof(*shared) + POOL_BYTES;

	shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return -1;
	shared = (void *)(((uintptr_t)shared + POOL_BYTES - 1) & ~(uintptr_t)(POOL_BYTES - 1));
	records = calloc(RECORDS_MAX, sizeof(*records));
	find_text();
	return records && text_bias ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

#endif
