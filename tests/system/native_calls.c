/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Calls every function of the malloc family and keeps a log of what each gave
 * and took, in memory of its own: the truth for the native probes.
 *
 *	native_calls THREADS OPERATIONS SEED [fork|starve]
 *
 * fork: a child does the same first.  starve: at its end a thread loses one by
 * one the system calls that memory comes from, so that the library has to take
 * its last ways out.
 *
 * Says "ready PID ZERO TEXT_START TEXT_END" (hexadecimal addresses; at ZERO
 * lie 4 KiB of zeros), waits for a line, works, and writes the logs: for each
 * thread its id and its number of records (8 bytes each), then the records.
 *
 * Built without the start files and with old symbol versions, so that one
 * build runs on the C library at hand and on older ones.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 8
#define OPERATIONS_MAX 20000
#define RECORDS_MAX (OPERATIONS_MAX + 1024)
#define LIVE 160  /* blocks that a thread keeps */
#define SHARED 32 /* blocks that pass from thread to thread */
#define HUGE_BYTES ((size_t)1 << 46)

__asm__(".symver pthread_create,pthread_create@GLIBC_2.2.5");
__asm__(".symver pthread_join,pthread_join@GLIBC_2.2.5");
__asm__(".symver start_libc,__libc_start_main@GLIBC_2.2.5");

enum call {
	CALL_MALLOC,
	CALL_CALLOC,
	CALL_REALLOC,
	CALL_REALLOCARRAY,
	CALL_POSIX_MEMALIGN,
	CALL_ALIGNED_ALLOC,
	CALL_MEMALIGN,
	CALL_VALLOC,
	CALL_PVALLOC,
	CALL_FREE,
	CALLS
};

struct record {
	uint64_t call;	  /* enum call */
	uint64_t size;	  /* asked for */
	uint64_t old;	  /* what realloc and free were given */
	uint64_t address; /* what was given; 0: nothing */
	uint64_t usable;  /* malloc_usable_size() of that */
};

struct worker {
	uint64_t tid, n;
	struct record records[RECORDS_MAX];
	void *live[LIVE];
	size_t operations;
	int starve;
	uint64_t random;
	pthread_t thread;
};

extern char __executable_start, etext;
static char zeros[4096];
static _Atomic(void *) shared[SHARED];

static void fail(const char *what)
{
	dprintf(2, "native_calls: %s\n", what);
	_exit(1);
}

static uint64_t next_random(struct worker *worker)
{
	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	return worker->random;
}

static void note(struct worker *worker, enum call call, size_t size, void *old, void *address)
{
	if (worker->n == RECORDS_MAX)
		fail("the log is full");
	worker->records[worker->n++] = (struct record){
		.call = call,
		.size = size,
		.old = (uintptr_t)old,
		.address = (uintptr_t)address,
		.usable = address ? malloc_usable_size(address) : 0,
	};
}

/* The compiler must neither know these functions nor turn one into another. */
static void *(*volatile call_malloc)(size_t) = malloc;
static void *(*volatile call_calloc)(size_t, size_t) = calloc;
static void *(*volatile call_realloc)(void *, size_t) = realloc;
static void *(*volatile call_reallocarray)(void *, size_t, size_t) = reallocarray;
static int (*volatile call_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void *(*volatile call_aligned_alloc)(size_t, size_t) = aligned_alloc;
static void *(*volatile call_memalign)(size_t, size_t) = memalign;
static void *(*volatile call_valloc)(size_t) = valloc;
static void *(*volatile call_pvalloc)(size_t) = pvalloc;
static void (*volatile call_free)(void *) = free;

static void *do_aligned(struct worker *worker, enum call call, size_t alignment, size_t size)
{
	void *result = NULL;

	switch (call) {
	case CALL_POSIX_MEMALIGN:
		if (call_posix_memalign(&result, alignment, size) != 0)
			result = NULL;
		break;
	case CALL_ALIGNED_ALLOC:
		result = call_aligned_alloc(alignment, size);
		break;
	case CALL_MEMALIGN:
		result = call_memalign(alignment, size);
		break;
	case CALL_VALLOC:
		result = call_valloc(size);
		break;
	default:
		result = call_pvalloc(size);
		break;
	}
	note(worker, call, size, NULL, result);
	return result;
}

static void *do_malloc(struct worker *worker, size_t size)
{
	void *result = call_malloc(size);

	note(worker, CALL_MALLOC, size, NULL, result);
	return result;
}

static void *do_calloc(struct worker *worker, size_t n, size_t size)
{
	unsigned char *result = call_calloc(n, size);

	note(worker, CALL_CALLOC, size, NULL, result);
	if (result && n * size > 0 && (result[0] || result[n * size - 1]))
		fail("calloc gave memory that is not zero");
	return result;
}

/* Returns what is held afterwards. */
static void *do_realloc(struct worker *worker, void *old, size_t size, int array)
{
	void *result = array ? call_reallocarray(old, 1, size) : call_realloc(old, size);

	note(worker, array ? CALL_REALLOCARRAY : CALL_REALLOC, size, old, result);
	return result || size == 0 ? result : old;
}

static void do_free(struct worker *worker, void *old)
{
	note(worker, CALL_FREE, 0, old, NULL);
	call_free(old);
}

/* 1 B to 64 MiB: each decade of sizes is another path through the library. */
static size_t some_size(struct worker *worker)
{
	const uint64_t random = next_random(worker);
	const unsigned kind = random % 1000;
	const size_t more = random >> 16;

	if (kind < 500)
		return 1 + more % 128;
	if (kind < 800)
		return 1 + more % 1200;
	if (kind < 940)
		return 1 + more % (64 << 10);
	if (kind < 996)
		return 1 + more % (512 << 10);
	if (kind < 999)
		return 1 + more % (8 << 20);
	return 1 + more % (64 << 20);
}

static size_t some_alignment(struct worker *worker)
{
	return (size_t)8 << next_random(worker) % 10;
}

/* The slot holds nothing. */
static void *allocate(struct worker *worker)
{
	const size_t size = some_size(worker), alignment = some_alignment(worker);

	switch (next_random(worker) % 12) {
	case 0:
	case 1:
		return do_calloc(worker, 1 + size % 7, 1 + size / 7);
	case 2:
		return do_realloc(worker, NULL, size, next_random(worker) & 1);
	case 3:
		return do_aligned(worker, CALL_POSIX_MEMALIGN, alignment, size);
	case 4:
		return do_aligned(worker, CALL_ALIGNED_ALLOC, alignment, size);
	case 5:
		return do_aligned(worker, CALL_MEMALIGN, alignment, size);
	case 6:
		return do_aligned(worker, next_random(worker) & 1 ? CALL_VALLOC : CALL_PVALLOC, 0,
				  size);
	default:
		return do_malloc(worker, size);
	}
}

static void release(struct worker *worker, void *block)
{
	if (next_random(worker) % 16 == 0)
		do_realloc(worker, block, 0, next_random(worker) & 1);
	else
		do_free(worker, block);
}

static void step(struct worker *worker)
{
	void **slot = &worker->live[next_random(worker) % LIVE];
	const uint64_t what = next_random(worker) % 16;

	if (!*slot)
		*slot = allocate(worker);
	else if (what < 6)
		*slot = do_realloc(worker, *slot, some_size(worker), what & 1);
	else if (what < 9)
		*slot = atomic_exchange(&shared[next_random(worker) % SHARED], *slot);
	else {
		release(worker, *slot);
		*slot = NULL;
	}
}

/* What can't be had: each function's ways out with nothing. */
static void fail_each(struct worker *worker)
{
	void *block = do_malloc(worker, 100);

	do_malloc(worker, HUGE_BYTES);
	do_malloc(worker, SIZE_MAX - 8);
	do_calloc(worker, HUGE_BYTES, 1);
	do_calloc(worker, SIZE_MAX / 2, 4);
	do_realloc(worker, NULL, HUGE_BYTES, 0);
	do_realloc(worker, block, HUGE_BYTES, 0);
	do_realloc(worker, block, SIZE_MAX - 8, 0);
	do_realloc(worker, block, HUGE_BYTES, 1);
	do_aligned(worker, CALL_POSIX_MEMALIGN, 3, 100);
	do_aligned(worker, CALL_POSIX_MEMALIGN, 64, HUGE_BYTES);
	do_aligned(worker, CALL_ALIGNED_ALLOC, 64, HUGE_BYTES);
	do_aligned(worker, CALL_MEMALIGN, 64, HUGE_BYTES);
	do_aligned(worker, CALL_MEMALIGN, SIZE_MAX / 2 + 2, 1);
	do_aligned(worker, CALL_VALLOC, 0, HUGE_BYTES);
	do_aligned(worker, CALL_PVALLOC, 0, SIZE_MAX - 8);
	do_free(worker, block);
	do_free(worker, NULL);
}

/* Grown and shrunk: in place, at the top, moved, mapped by itself and back. */
static void resize_each(struct worker *worker)
{
	static const size_t sizes[] = {1,	 24,	   25,	    1000,    1040,    900,
				       100,	 70000,	   65536,   140000,  150000,  3 << 20,
				       5 << 20,	 4 << 20,  4 << 20, 1 << 10, 2 << 20, 64 << 20,
				       40 << 20, 33 << 20, 1};
	void *block = NULL, *fence;

	for (int array = 0; array <= 1; array++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
			block = do_realloc(worker, block, sizes[i], array);
			if (i % 4 == 3) { /* so that it can't grow where it is */
				fence = do_malloc(worker, 200);
				block = do_realloc(worker, block, sizes[i] * 2, array);
				do_free(worker, fence);
			}
		}
		block = do_realloc(worker, block, 0, array);
	}
}

/* Freed and had again at once: first of its size class in the cache, and behind another. */
static void repeat_each(struct worker *worker)
{
	static const size_t sizes[] = {40, 600, 2000, 3000, 20000, 70000};
	void *first, *second;

	for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(*sizes); i++) {
		const size_t size = sizes[i / 2];

		first = do_malloc(worker, size);
		second = do_malloc(worker, size + 64);
		for (int again = 0; again < 2; again++) {
			do_free(worker, second);
			do_free(worker, first);
			second = i & 1 ? do_malloc(worker, size + 64)
				       : do_calloc(worker, 1, size + 64);
			first = i & 1 ? do_malloc(worker, size) : do_calloc(worker, 1, size);
		}
		do_free(worker, first);
		do_free(worker, second);
	}
}

/* From now on this thread's calls of it fail for want of memory. */
static void lose(unsigned number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(*code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		fail("no seccomp");
}

/* Fills slots and makes them grow, from sizes that bins hold to sizes that arenas haven't got. */
static void press(struct worker *worker, size_t factor)
{
	for (size_t i = 0; i < LIVE; i++) {
		const size_t size = 3000 + 700 * i;

		if (!worker->live[i])
			worker->live[i] = i % 3 == 0 ? do_calloc(worker, 1, size)
					  : i % 3 == 1
						  ? do_malloc(worker, size)
						  : do_aligned(worker, CALL_MEMALIGN, 256, size);
		worker->live[i] = do_realloc(worker, worker->live[i], factor * size, i & 1);
	}
}

static void starve(struct worker *worker)
{
	void *shrunk = do_malloc(worker, 40 << 20), *grown = do_malloc(worker, 36 << 20);

	lose(SYS_mremap);
	shrunk = do_realloc(worker, shrunk, 34 << 20, 0);
	grown = do_realloc(worker, grown, 48 << 20, 0);
	lose(SYS_mmap);
	press(worker, 2);
	lose(SYS_mprotect);
	press(worker, 5);
	do_malloc(worker, 1 << 20);
	do_free(worker, shrunk);
	do_free(worker, grown);
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	worker->tid = (uint64_t)syscall(SYS_gettid);
	fail_each(worker);
	resize_each(worker);
	repeat_each(worker);
	for (size_t i = 0; i < worker->operations; i++)
		step(worker);
	if (worker->starve)
		starve(worker);
	for (size_t i = 0; i < LIVE; i++)
		do_free(worker, worker->live[i]);
	return NULL;
}

static void write_all(const void *data, size_t size)
{
	const char *at = data;
	ssize_t n;

	for (; size > 0; at += n, size -= (size_t)n) {
		n = write(1, at, size);
		if (n <= 0)
			fail("can't write the log");
	}
}

static struct worker *make_worker(size_t operations, uint64_t seed)
{
	struct worker *worker = mmap(NULL, sizeof(*worker), PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (worker == MAP_FAILED)
		fail("no memory for a log");
	worker->operations = operations;
	worker->random = 0x9e3779b97f4a7c15 * (seed + 1);
	return worker;
}

/* The child must get on with the breakpoints that it inherits; nobody sees what it does. */
static void work_in_child(size_t operations, uint64_t seed)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		work(make_worker(operations, seed));
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		fail("the child did not get through");
}

static int run(int argc, char **argv, char **environment)
{
	struct worker *workers[THREADS_MAX];
	const size_t threads = argc > 3 ? strtoul(argv[1], NULL, 10) : 0;
	const size_t operations = argc > 3 ? strtoul(argv[2], NULL, 10) : 0;
	const uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	char line[8];

	(void)environment;
	if (threads < 1 || threads > THREADS_MAX || operations > OPERATIONS_MAX)
		fail("usage: native_calls THREADS OPERATIONS SEED [fork|starve]");
	for (size_t i = 0; i < threads; i++) {
		workers[i] = make_worker(operations, seed * THREADS_MAX + i);
		workers[i]->starve = argc > 4 && !strcmp(argv[4], "starve");
	}
	dprintf(1, "ready %d %lx %lx %lx\n", getpid(), (unsigned long)(uintptr_t)zeros,
		(unsigned long)(uintptr_t)&__executable_start, (unsigned long)(uintptr_t)&etext);
	if (read(0, line, sizeof(line)) <= 0)
		return 1;
	if (argc > 4 && !strcmp(argv[4], "fork"))
		work_in_child(operations, seed);
	for (size_t i = 1; i < threads; i++)
		if (pthread_create(&workers[i]->thread, NULL, work, workers[i]) != 0)
			fail("no thread");
	work(workers[0]);
	for (size_t i = 1; i < threads; i++)
		pthread_join(workers[i]->thread, NULL);
	for (size_t i = 0; i < threads; i++) {
		write_all(&workers[i]->tid, 16);
		write_all(workers[i]->records, workers[i]->n * sizeof(*workers[i]->records));
	}
	return 0;
}

int start_libc(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
	       void (*fini)(void), void (*at_exit)(void), void *stack_end);

/* argc and argv lie where the kernel has put them. */
__attribute__((used, noreturn)) static void begin(uintptr_t *stack)
{
	start_libc(run, (int)stack[0], (char **)(stack + 1), NULL, NULL, NULL, stack);
	__builtin_unreachable();
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call begin\n"
	"	hlt\n");
