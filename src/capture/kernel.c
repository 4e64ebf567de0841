/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "capture/kernel.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "base/cleanup.h"
#include "capture/kernel_log.h"
#include "capture/kernel_private.h"

#include "probe.skel.h"

#define BTF_PATH "/sys/kernel/btf/vmlinux"
#define OWN_PROGRAM "/proc/self/exe"
/* include/linux/proc_ns.h: PROC_PID_INIT_INO, the initial namespace's inode */
#define PID_NAMESPACE_INITIAL 0xeffffffcUL

DEFINE_CLEANUP(struct probe_bpf *, probe_bpf__destroy)

/* clang-format off */
__asm__(
	".pushsection .text\n"
	".p2align 4\n"
	".globl probed_jump\n.type probed_jump, @function\nprobed_jump:\n"
	"	xor %eax, %eax\n"
	"	.byte 0x74, 0x00\n" /* je to the next instruction */
	"	ret\n"
	".size probed_jump, . - probed_jump\n"
	".globl probed_move\n.type probed_move, @function\nprobed_move:\n"
	"	mov %rdi, %rax\n"
	"	ret\n"
	".size probed_move, . - probed_move\n"
	".globl probed_push\n.type probed_push, @function\nprobed_push:\n"
	"	push %rbp\n"
	"	pop %rbp\n"
	"	ret\n"
	".size probed_push, . - probed_push\n"
	".globl probed_nop5\n.type probed_nop5, @function\nprobed_nop5:\n"
	"	mov $0x5eed, %eax\n"
	"	mov %rax, -8(%rsp)\n"
	".globl probed_nop5_at\nprobed_nop5_at:\n"
	"	.byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"
	"	xor -8(%rsp), %rax\n"
	"	ret\n"
	".size probed_nop5, . - probed_nop5\n"
	".popsection\n");
/* clang-format on */

/* Where an address of our own program lies in its file: what the mapping says. */
static int own_file_offset(uintptr_t address, unsigned long *ret)
{
	_cleanup_fclose_ FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	if (!maps)
		return -errno;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, offset;

		if (sscanf(line, "%lx-%lx %*4s %lx", &start, &end, &offset) == 3 &&
		    address >= start && address < end) {
			*ret = address - start + offset;
			return 0;
		}
	}
	return -ENOENT;
}

int kernel_probe_load(enum kernel_attach how, struct probe_bpf **ret)
{
	CLEANUP(probe_bpf__destroy) struct probe_bpf *skeleton = probe_bpf__open();
	int r;

	if (!skeleton)
		return -errno;
	probe_program_prepare(skeleton->progs.on_hit, how);
	probe_program_prepare(skeleton->progs.on_nothing, how);
	skeleton->rodata->with_cookie = how == KERNEL_ATTACH_MULTI;
	r = probe_bpf__load(skeleton);
	if (r == 0)
		*ret = TAKE_PTR(skeleton);
	return r;
}

int kernel_probe_attach(struct bpf_program *program, enum kernel_attach how, pid_t pid,
			uintptr_t at, bool uretprobe, struct probe_link *link)
{
	const __u64 cookie = PROBED_COOKIE;
	unsigned long offset;
	int r;

	r = own_file_offset(at, &offset);
	if (r < 0)
		return r;
	const struct probe_sites sites = {
		.path = OWN_PROGRAM,
		.offsets = &offset,
		.cookies = &cookie,
		.n = 1,
		.uretprobe = uretprobe,
	};
	return probe_link_attach(link, how, program, pid, &sites);
}

static void *call_probed_jump(void *unused)
{
	(void)unused;
	probed_jump();
	return NULL;
}

/*
 * Is a hit of another thread of ours delivered?  A link's pid meant that one
 * thread until 46ba0e49b642 "bpf: fix multi-uprobe PID filtering logic".
 */
static enum kernel_answer ask_whole_process(const struct probe_bpf *skeleton)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, call_probed_jump, NULL))
		return KERNEL_UNKNOWN;
	pthread_join(thread, NULL);
	return skeleton->bss->hits_of_threads ? KERNEL_YES : KERNEL_NO;
}

/* One hit of ours, and one of another thread. A hit that does not come is no support. */
static int ask_hits(enum kernel_attach how, struct probe_bpf *skeleton, enum kernel_answer *ret)
{
	__attribute__((cleanup(probe_link_done))) struct probe_link link = {0};
	int r;

	r = kernel_probe_attach(skeleton->progs.on_hit, how, getpid(), PROBED_JUMP_AT, false,
				&link);
	if (r < 0)
		return r;
	probed_jump();
	if (skeleton->bss->hits != 1)
		return -ENODATA;
	*ret = ask_whole_process(skeleton);
	return 0;
}

/*
 * Links to many uprobes: 89ae89f53d20 "bpf: Add multi uprobe link" (6.6); with
 * cookies 0b779b61f651 "bpf: Add cookies support for uprobe_multi link".
 */
static int ask_multi(struct kernel_features *features)
{
	CLEANUP(probe_bpf__destroy) struct probe_bpf *skeleton = NULL;
	int r;

	r = kernel_probe_load(KERNEL_ATTACH_MULTI, &skeleton);
	if (r == 0)
		r = ask_hits(KERNEL_ATTACH_MULTI, skeleton, &features->whole_process);
	if (r < 0)
		return r;
	features->uprobe_multi = true;
	features->attach_cookie = skeleton->bss->cookie == PROBED_COOKIE;
	return 0;
}

static int ask_tracefs(struct kernel_features *features)
{
	CLEANUP(probe_bpf__destroy) struct probe_bpf *skeleton = NULL;
	enum kernel_answer whole_process = KERNEL_UNKNOWN;
	int r;

	r = tracefs_remove_leftovers();
	if (r < 0)
		return r;
	r = kernel_probe_load(KERNEL_ATTACH_TRACEFS, &skeleton);
	if (r == 0)
		r = ask_hits(KERNEL_ATTACH_TRACEFS, skeleton, &whole_process);
	if (r == 0 && whole_process != KERNEL_YES)
		r = -ENODATA;
	features->tracefs = r == 0;
	return r;
}

static const char *why_not_multi(const struct kernel_features *features)
{
	if (!features->uprobe_multi)
		return "the kernel has no links to many uprobes (Linux 6.6)";
	if (!features->attach_cookie)
		return "links to many uprobes have no cookies here";
	if (features->whole_process != KERNEL_YES)
		return "a link's pid means one thread here (before Linux 6.11)";
	return NULL;
}

/* What links can't do, events are asked for: each of their hits is dearer. */
static void choose_attach(struct kernel_features *features)
{
	const char *wanted = secure_getenv(KERNEL_ATTACH_VARIABLE);
	bool only_multi = wanted && !strcmp(wanted, "multi");
	bool only_tracefs = wanted && !strcmp(wanted, "tracefs");
	const char *why_not;

	features->error = ask_multi(features);
	why_not = why_not_multi(features);
	features->attach_reason = why_not ? why_not : "hits cost less than by events of tracefs";
	if (only_multi || only_tracefs)
		features->attach_reason = KERNEL_ATTACH_VARIABLE " says so";
	else if (wanted)
		features->attach_reason =
			KERNEL_ATTACH_VARIABLE " is neither multi nor tracefs, ignoring it";
	if (!why_not && !only_tracefs) {
		features->attach = KERNEL_ATTACH_MULTI;
		return;
	}
	if (!only_multi && ask_tracefs(features) == 0)
		features->attach = KERNEL_ATTACH_TRACEFS;
}

/* fec56f5890d9 "bpf: Introduce BPF trampoline" (5.5), where the architecture and build have it. */
static bool ask_trampolines(void)
{
	const struct bpf_insn instructions[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int id = libbpf_find_vmlinux_btf_id("__x64_sys_mmap", BPF_TRACE_FEXIT);
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_TRACE_FEXIT,
		    .attach_btf_id = id > 0 ? (__u32)id : 0);
	_cleanup_close_ int program = -1;
	_cleanup_close_ int link = -1;

	if (id <= 0)
		return false;
	program = bpf_prog_load(BPF_PROG_TYPE_TRACING, "ask_trampoline", "GPL", instructions,
				ARRAY_SIZE(instructions), &options);
	if (program < 0)
		return false;
	link = bpf_raw_tracepoint_open(NULL, program);
	return link >= 0;
}

/*
 * 5ca419f2864a "bpf: Add BPF_FETCH field / create atomic_fetch_add instruction"
 * (5.12); and 3ca1032ab7ab "bpf: Implement get_current_task_btf and RET_PTR_TO_BTF_ID" (5.11).
 */
static bool ask_atomics(void)
{
	const struct bpf_insn instructions[] = {
		{.code = BPF_ST | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_10, .off = -8},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_STX | BPF_ATOMIC | BPF_DW,
		 .dst_reg = BPF_REG_10,
		 .src_reg = BPF_REG_0,
		 .off = -8,
		 .imm = BPF_ADD | BPF_FETCH},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	_cleanup_close_ int program = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "ask_atomics", "GPL",
						    instructions, ARRAY_SIZE(instructions), NULL);

	return program >= 0 && libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE,
						       BPF_FUNC_get_current_task_btf, NULL) == 1;
}

void kernel_features_probe(struct kernel_features *ret)
{
	struct kernel_features features = {.whole_process = KERNEL_UNKNOWN};
	struct stat namespace;

	libbpf_set_print(NULL); /* what fails is told by our own means */
	features.host_pids = stat("/proc/self/ns/pid", &namespace) == 0 &&
			     namespace.st_ino == PID_NAMESPACE_INITIAL;
	features.btf = access(BTF_PATH, R_OK) == 0;
	/* 457f44363a88 "bpf: Implement BPF ring buffer and verifier support for it" (5.8) */
	features.ring_buffer = libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) == 1;
	features.atomics = ask_atomics();
	if (features.btf) {
		choose_attach(&features);
		features.trampolines = ask_trampolines();
	}
	*ret = features;
}

const char *kernel_features_missing(const struct kernel_features *features)
{
	if (!features->host_pids)
		return "the host's pid namespace";
	if (!features->btf)
		return "BTF (CONFIG_DEBUG_INFO_BTF)";
	if (features->error == -EPERM || features->error == -EACCES)
		return "privilege (root, or CAP_BPF and CAP_PERFMON)";
	if (kernel_error_is_of_the_asking(features->error))
		return kernel_error_text(features->error);
	if (!features->ring_buffer)
		return "ring buffers";
	if (!features->atomics)
		return "BPF's atomic instructions (Linux 5.12)";
	if (features->attach == KERNEL_ATTACH_NONE)
		return "uprobes: neither links to many of them (Linux 6.6) nor events of tracefs "
		       "(CONFIG_UPROBE_EVENTS, mounted on /sys/kernel/tracing)";
	return NULL;
}

const char *kernel_attach_name(enum kernel_attach attach)
{
	static const char *const names[] = {
		[KERNEL_ATTACH_NONE] = "none",
		[KERNEL_ATTACH_MULTI] = "links to many uprobes (uprobe_multi)",
		[KERNEL_ATTACH_TRACEFS] = "uprobe events of tracefs",
	};

	return names[attach];
}
