/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What a hit costs, and what it may do to the code around: measured on ourselves. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "capture/kernel.h"
#include "capture/kernel_private.h"

#include "probe.skel.h"

#define MEASURED_CALLS 500
#define MEASURED_ROUNDS 20 /* of which the fastest counts: others disturb, nothing speeds up */
#define NOP5_CALLS 1000

DEFINE_CLEANUP(struct probe_bpf *, probe_bpf__destroy)

static double call_ns(void (*function)(void))
{
	double best = 0;

	for (int round = 0; round < MEASURED_ROUNDS; round++) {
		uint64_t start = clock_monotonic_ns();
		double each;

		for (int i = 0; i < MEASURED_CALLS; i++)
			function();
		each = (double)(clock_monotonic_ns() - start) / MEASURED_CALLS;
		if (round == 0 || each < best)
			best = each;
	}
	return best;
}

static double hit_ns(struct probe_bpf *skeleton, enum kernel_attach how, void (*function)(void),
		     uintptr_t at, bool uretprobe)
{
	__attribute__((cleanup(probe_link_done))) struct probe_link link = {0};
	double alone = call_ns(function);
	double probed;

	if (kernel_probe_attach(skeleton->progs.on_nothing, how, getpid(), at, uretprobe, &link) <
	    0)
		return 0;
	probed = call_ns(function);
	return probed > alone ? probed - alone : 0;
}

/* In the child: waits for the word, calls, and says how often the data was overwritten. */
static void __attribute__((noreturn)) nop5_child(int in, int out)
{
	uint32_t clobbered = 0;
	char go;

	if (read(in, &go, 1) != 1)
		_exit(1);
	for (int i = 0; i < NOP5_CALLS; i++)
		clobbered += probed_nop5() != 0;
	if (write(out, &clobbered, sizeof(clobbered)) != sizeof(clobbered))
		_exit(1);
	_exit(0);
}

static enum kernel_answer ask_child(struct probe_bpf *skeleton, enum kernel_attach how, pid_t child,
				    int to, int from)
{
	__attribute__((cleanup(probe_link_done))) struct probe_link link = {0};
	uint32_t clobbered;

	if (kernel_probe_attach(skeleton->progs.on_nothing, how, child, (uintptr_t)probed_nop5_at,
				false, &link) < 0)
		return KERNEL_UNKNOWN;
	if (write(to, "g", 1) != 1 ||
	    read(from, &clobbered, sizeof(clobbered)) != sizeof(clobbered))
		return KERNEL_UNKNOWN;
	return clobbered ? KERNEL_YES : KERNEL_NO;
}

/*
 * In a child, because it is the kernel's word against a stack.  From the
 * "optimized uprobes" series on (6.18) until 7.2 the answer is yes.
 */
static enum kernel_answer ask_nop5(struct probe_bpf *skeleton, enum kernel_attach how)
{
	_cleanup_close_ int in_read = -1, in_write = -1, out_read = -1, out_write = -1;
	enum kernel_answer answer;
	int in[2], out[2];
	pid_t child;

	if (pipe2(in, O_CLOEXEC) < 0)
		return KERNEL_UNKNOWN;
	in_read = in[0];
	in_write = in[1];
	if (pipe2(out, O_CLOEXEC) < 0)
		return KERNEL_UNKNOWN;
	out_read = out[0];
	out_write = out[1];
	child = fork();
	if (child < 0)
		return KERNEL_UNKNOWN;
	if (child == 0)
		nop5_child(in_read, out_write);
	close(out_write); /* so that a child that died is the end of the file */
	out_write = -1;
	answer = ask_child(skeleton, how, child, in_write, out_read);
	kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return answer;
}

void capture_probe_kernel(struct capture_kernel *ret)
{
	CLEANUP(probe_bpf__destroy) struct probe_bpf *skeleton = NULL;
	struct capture_kernel kernel = {.nop5_clobbers = KERNEL_UNKNOWN};
	_cleanup_close_ int statistics = -1;
	enum kernel_attach how;
	struct utsname name;

	if (uname(&name) == 0)
		memcpy(kernel.release, name.release, sizeof(kernel.release));
	kernel_features_probe(&kernel.features);
	how = kernel.features.attach;
	/* d46edd671a14 "bpf: Sharing bpf runtime stats with BPF_ENABLE_STATS" (5.8) */
	statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	kernel.run_statistics = statistics >= 0;
	if (statistics >= 0)
		close(TAKE_FD(statistics)); /* they would be part of what is measured */
	if (kernel_probe_load(how, &skeleton) == 0) {
		kernel.emulated_ns = hit_ns(skeleton, how, probed_jump, PROBED_JUMP_AT, false);
		kernel.stepped_ns = hit_ns(skeleton, how, probed_move, PROBED_MOVE_AT, false);
		kernel.uretprobe_ns = hit_ns(skeleton, how, probed_push, PROBED_PUSH_AT, true);
		kernel.nop5_clobbers = ask_nop5(skeleton, how);
	}
	*ret = kernel;
}

static double measure_trap_ns(void)
{
	CLEANUP(probe_bpf__destroy) struct probe_bpf *skeleton = NULL;
	struct kernel_features features;

	kernel_features_probe(&features);
	if (kernel_probe_load(features.attach, &skeleton) < 0)
		return 0;
	return hit_ns(skeleton, features.attach, probed_jump, PROBED_JUMP_AT, false);
}

double capture_trap_ns(void)
{
	static bool measured;
	static double trap_ns;

	if (!measured) {
		trap_ns = measure_trap_ns();
		measured = true;
	}
	return trap_ns;
}
