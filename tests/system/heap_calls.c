/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Allocates and frees at random in several threads, then stands still and says
 * what it holds, for a heap to be compared with from outside.
 *
 *	heap_calls THREADS OPERATIONS SEED
 *
 *	live ADDRESS USABLE        of every block that it has
 *	freed ADDRESS USABLE       of a block that it had, where none lies that it has
 *	totals ARENA FORDBLKS HBLKHD   of mallinfo()
 *	end                        and then it waits for its input to end
 *
 * Runs in older C libraries too than it was linked against: no function of
 * theirs that has a newer version, and a beginning of its own.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 4000
#define THREADS_MAX 16
#define FREED_MAX 20000

__asm__(".symver pthread_create,pthread_create@GLIBC_2.2.5");
__asm__(".symver start_libc,__libc_start_main@GLIBC_2.2.5");

struct block {
	uint64_t address, usable;
};

struct worker {
	uint64_t random, operations;
	size_t n_freed;
	struct block live[SLOTS];
	struct block freed[FREED_MAX]; /* a ring */
};

static struct worker workers[THREADS_MAX];
static size_t n_workers;
static atomic_uint done;

static uint64_t next_random(struct worker *worker)
{
	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	return worker->random;
}

/* Mostly small, some beyond any cache, few with mappings of their own. */
static size_t random_size(struct worker *worker)
{
	uint64_t kind = next_random(worker) % 100, size = next_random(worker);

	if (kind < 60)
		return size % 200 + 1;
	if (kind < 90)
		return size % 2000 + 1;
	if (kind < 99)
		return size % 30000 + 1;
	return size % 3 ? size % 100000 + 1 : 200000 + size % 100000;
}

static void step(struct worker *worker)
{
	struct block *block = &worker->live[next_random(worker) % SLOTS];
	void *made;

	if (block->address) {
		worker->freed[worker->n_freed++ % FREED_MAX] = *block;
		free((void *)block->address);
		block->address = 0;
		return;
	}
	made = malloc(random_size(worker));
	if (!made)
		_exit(1);
	block->address = (uintptr_t)made;
	block->usable = malloc_usable_size(made);
	memset(made, 0x5a, block->usable);
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	for (uint64_t i = 0; i < worker->operations; i++)
		step(worker);
	atomic_fetch_add(&done, 1);
	while (worker != &workers[0])
		pause();
	return NULL;
}

static int compare(const void *a, const void *b)
{
	const struct block *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static struct block all[THREADS_MAX * SLOTS];
static size_t n_all;

static void collect(void)
{
	for (size_t i = 0; i < n_workers; i++)
		for (size_t k = 0; k < SLOTS; k++)
			if (workers[i].live[k].address)
				all[n_all++] = workers[i].live[k];
	/* qsort() of so many may call malloc; so it is Shell's way. */
	for (size_t gap = n_all / 2; gap; gap /= 2)
		for (size_t i = gap; i < n_all; i++)
			for (size_t k = i; k >= gap && compare(&all[k - gap], &all[k]) > 0;
			     k -= gap) {
				struct block block = all[k];

				all[k] = all[k - gap];
				all[k - gap] = block;
			}
}

static int is_inside_live(uint64_t address)
{
	size_t low = 0, high = n_all;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (address < all[middle].address)
			high = middle;
		else if (address >= all[middle].address + all[middle].usable)
			low = middle + 1;
		else
			return 1;
	}
	return 0;
}

static void tell(void)
{
	for (size_t i = 0; i < n_all; i++)
		dprintf(1, "live %lx %lu\n", all[i].address, all[i].usable);
	for (size_t i = 0; i < n_workers; i++) {
		struct worker *worker = &workers[i];
		size_t n = worker->n_freed < FREED_MAX ? worker->n_freed : FREED_MAX;

		for (size_t k = 0; k < n; k++)
			if (!is_inside_live(worker->freed[k].address))
				dprintf(1, "freed %lx %lu\n", worker->freed[k].address,
					worker->freed[k].usable);
	}
}

static int run(int argc, char **argv, char **environment)
{
	struct mallinfo info;
	pthread_t thread;
	char byte;

	(void)environment;
	if (argc < 4)
		return 2;
	n_workers = strtoul(argv[1], NULL, 10);
	for (size_t i = 0; i < n_workers; i++) {
		workers[i].operations = strtoull(argv[2], NULL, 10);
		workers[i].random = strtoull(argv[3], NULL, 10) * 7919 + i * 104729 + 1;
	}
	for (size_t i = 1; i < n_workers; i++)
		if (pthread_create(&thread, NULL, work, &workers[i]) != 0)
			return 1;
	work(&workers[0]);
	while (atomic_load(&done) < n_workers)
		usleep(1000);
	collect();
	tell();
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	info = mallinfo();
	dprintf(1, "totals %d %d %d\nend\n", info.arena, info.fordblks, info.hblkhd);
	while (read(0, &byte, 1) > 0)
		;
	_exit(0);
}

int start_libc(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
	       void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
void begin(long *stack);

void begin(long *stack)
{
	start_libc(run, (int)stack[0], (char **)(stack + 1), NULL, NULL, NULL, stack);
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call begin\n"
	"	hlt\n");
