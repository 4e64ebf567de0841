/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/check.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "capture/kernel.h"
#include "service/opening.h"
#include "service/plan_cache.h"
#include "service/probing.h"
#include "target/cgroup.h"
#include "target/proc.h"

#define TABLE_BYTES_MAX (64u << 10)
#define NAME_COLUMNS 22
#define GRADE_COLUMNS 8
/* Above, breakpoints are single-stepped somewhere, or the host is very slow. */
#define EMULATED_NS_HIGH 3000

DEFINE_CLEANUP(struct opening *, opening_free)

enum grade { GRADE_YES, GRADE_NO, GRADE_INFO };

struct table_text {
	struct buffer text;
	bool failed; /* something that exact tracing can't do without is missing */
};

/* One row: what, yes or no, the fact, and behind an arrow what to do about it. */
static void __attribute__((format(printf, 5, 6)))
row(struct table_text *table, const char *name, enum grade grade, const char *remedy,
    const char *format, ...)
{
	static const char *const grades[] = { "yes", "NO", "" };
	char fact[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(fact, sizeof(fact), format, arguments);
	va_end(arguments);
	buffer_printf(&table->text, "%-*s%-*s%s\n", NAME_COLUMNS, name, GRADE_COLUMNS,
		      grades[grade], fact);
	if (remedy)
		buffer_printf(&table->text, "%-*s-> %s\n", NAME_COLUMNS + GRADE_COLUMNS, "",
			      remedy);
}

static void feature(struct table_text *table, const char *name, bool there, const char *what,
		    const char *remedy)
{
	row(table, name, there ? GRADE_YES : GRADE_NO, there ? NULL : remedy, "%s", what);
	table->failed |= !there;
}

static void cost_row(struct table_text *table, const char *name, double ns)
{
	if (ns > 0)
		row(table, name, GRADE_INFO, NULL, "%.2f microseconds a hit", ns / 1000);
	else
		row(table, name, GRADE_INFO, NULL, "could not be measured");
}

/* From /proc/self/status; 0: could not be read. */
static uint64_t effective_capabilities(void)
{
	_cleanup_free_ char *status = NULL;
	const char *mask;

	if (proc_read(getpid(), "status", PROC_STATUS_MAX, &status, NULL) < 0)
		return 0;
	mask = proc_field(status, "CapEff");
	return mask ? strtoull(mask, NULL, 16) : 0;
}

static void check_privileges(struct table_text *table)
{
	static const struct {
		unsigned number;
		unsigned instead; /* one that has it too */
		const char *name;
	} needed[] = {
		{ CAP_BPF, CAP_SYS_ADMIN, "CAP_BPF" },
		{ CAP_PERFMON, CAP_SYS_ADMIN, "CAP_PERFMON" },
		{ CAP_SYS_PTRACE, CAP_SYS_PTRACE, "CAP_SYS_PTRACE" },
		{ CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE, "CAP_DAC_READ_SEARCH" },
	};
	_cleanup_buffer_ struct buffer missing = buffer_init(256);
	uint64_t have = effective_capabilities();

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!(have >> needed[i].number & 1) && !(have >> needed[i].instead & 1))
			buffer_printf(&missing, "%s%s", missing.size ? ", " : "", needed[i].name);
	if (missing.size)
		row(table, "privileges", GRADE_NO,
		    "run as root, or with CAP_BPF and CAP_PERFMON (breakpoints), and for processes "
		    "of other users CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
		    "without %s", missing.data);
	else
		row(table, "privileges", GRADE_YES, NULL, "%s",
		    geteuid() == 0 ? "root" : "all capabilities that are needed");
}

static void check_costs(struct table_text *table, const struct capture_kernel *kernel)
{
	cost_row(table, "cheap breakpoint", kernel->emulated_ns);
	cost_row(table, "stepped breakpoint", kernel->stepped_ns);
	cost_row(table, "return probe", kernel->uretprobe_ns);
	if (kernel->emulated_ns > EMULATED_NS_HIGH)
		row(table, "", GRADE_INFO, "exact tracing will be very slow on this host",
		    "cheap breakpoints are not cheap here");
}

static void check_behaviour(struct table_text *table, const struct capture_kernel *kernel)
{
	static const char *const filter[] = {
		[KERNEL_UNKNOWN] = "could not be found out",
		[KERNEL_NO] = "of a link means one thread here",
		[KERNEL_YES] = "of a link means the whole process",
	};
	static const char *const nop[] = {
		[KERNEL_UNKNOWN] = "could not be found out: never probed",
		[KERNEL_NO] = "a probe leaves the target's data alone; never probed all the same",
		[KERNEL_YES] = ("a probe destroys the target's data (fixed in Linux 7.2): never "
			       "probed"),
	};

	row(table, "pid filter", GRADE_INFO, NULL, "%s", filter[kernel->features.whole_process]);
	row(table, "5-byte NOP", GRADE_INFO, NULL, "%s", nop[kernel->nop5_clobbers]);
	row(table, "memory mappings", GRADE_INFO, NULL, "%s",
	    kernel->features.trampolines ?
		    "seen by trampolines on mmap, munmap, mremap and brk" :
		    "seen by sys_exit: in a session every system call of the host is dearer");
}

static void check_attach(struct table_text *table, const struct kernel_features *features)
{
	bool attaches = features->attach != KERNEL_ATTACH_NONE;

	/* Either of the two will do. */
	row(table, "uprobe_multi", features->uprobe_multi ? GRADE_YES : GRADE_NO, NULL,
	    "many breakpoints in one link, with attach cookies%s",
	    features->uprobe_multi && !features->attach_cookie ? ": without the cookies" : "");
	row(table, "attach method", attaches ? GRADE_YES : GRADE_NO,
	    attaches ? NULL :
		       "use Linux 6.6 or later, or one with CONFIG_UPROBE_EVENTS=y and tracefs "
		       "mounted on /sys/kernel/tracing, or --no-probes",
	    "%s%s%s", kernel_attach_name(features->attach), features->attach_reason ? ": " : "",
	    features->attach_reason ? features->attach_reason : "");
	table->failed |= !attaches;
}

/* What is denied is not known to be missing. */
static const char *bpf_advice(const struct kernel_features *features, const char *otherwise)
{
	return features->error == -EPERM || features->error == -EACCES
		       ? "run as root, or with CAP_BPF and CAP_PERFMON: bpf() is denied"
		       : otherwise;
}

static void check_kernel(struct table_text *table)
{
	struct capture_kernel kernel;
	const struct kernel_features *features = &kernel.features;

	capture_probe_kernel(&kernel);
	row(table, "kernel", GRADE_INFO, NULL, "Linux %s", kernel.release);
	check_privileges(table);
	feature(table, "BTF", features->btf, "types of the kernel, /sys/kernel/btf/vmlinux",
		"use a kernel with CONFIG_DEBUG_INFO_BTF=y (Debian's have it)");
	feature(table, "ring buffer", features->ring_buffer, "BPF_MAP_TYPE_RINGBUF",
		bpf_advice(features, "use Linux 5.8 or later"));
	feature(table, "BPF atomics", features->atomics, "instructions that return what was there",
		bpf_advice(features, "use Linux 5.12 or later, or --no-probes"));
	check_attach(table, features);
	feature(table, "host's pids", features->host_pids, "pids as the kernel counts them",
		"run in the host's pid namespace (docker run --pid=host)");
	row(table, "run statistics", kernel.run_statistics ? GRADE_YES : GRADE_NO, NULL,
	    "BPF_ENABLE_STATS");
	check_costs(table, &kernel);
	check_behaviour(table, &kernel);
}

static void check_headroom(struct table_text *table, const struct opening *target)
{
	char free_text[TEXT_NUMBER_MAX], margin[TEXT_NUMBER_MAX];
	struct cgroup_headroom headroom;
	bool enough;

	if (cgroup_headroom(target->id.pid, &headroom) < 0) {
		row(table, "memory headroom", GRADE_INFO, NULL, "no limit can be seen from here");
		return;
	}
	if (headroom.reclaimable_bytes == CGROUP_UNLIMITED) {
		row(table, "memory headroom", GRADE_YES, NULL, "no limit");
		return;
	}
	enough = headroom.reclaimable_bytes >= PROBING_MARGIN_BYTES;
	row(table, "memory headroom", enough ? GRADE_YES : GRADE_NO,
	    enough ? NULL : "raise the limit, or use --no-probes",
	    "%s below the limit of %s, of which %s are to stay free",
	    text_bytes(free_text, (double)headroom.reclaimable_bytes), headroom.group,
	    text_bytes(margin, PROBING_MARGIN_BYTES));
}

static void plan_rows(struct table_text *table, const char *name, const struct plan *plan)
{
	static const char *const kinds[SITE_KINDS] = {
		[SITE_ALLOC] = "allocate",
		[SITE_FREE] = "free",
		[SITE_FRESH] = "fresh pool",
		[SITE_CREATE] = "create",
		[SITE_DESTROY] = "destroy",
		[SITE_NATIVE_ALLOC] = "malloc",
		[SITE_NATIVE_FREE] = "free()",
		[SITE_REALLOC_ENTER] = "realloc",
		[SITE_REALLOC_RETURN] = "realloc's return",
		[SITE_CALLER] = "behind allocators' calls",
	};
	_cleanup_buffer_ struct buffer list = buffer_init(1024);
	size_t cheap = 0;

	for (size_t i = 0; i < plan->n_sites; i++)
		cheap += plan->sites[i].emulated;
	for (size_t kind = 0; kind < SITE_KINDS; kind++)
		if (plan->statistics.by_kind[kind] && kinds[kind])
			buffer_printf(&list, ", %u %s", plan->statistics.by_kind[kind],
				      kinds[kind]);
	row(table, name, GRADE_YES, NULL, "%zu sites, %.0f %% cheap%s", plan->n_sites,
	    plan->n_sites ? 100.0 * (double)cheap / (double)plan->n_sites : 0,
	    list.data ? list.data : "");
	if (plan->statistics.unresolved)
		row(table, "", GRADE_INFO, "report this build: what passes there is not seen",
		    "%u more could not be used", plan->statistics.unresolved);
}

static int check_target(struct table_text *table, pid_t pid)
{
	CLEANUP(opening_free) struct opening *target = NULL;
	const struct opening_plan_options plan_options = {
		.native = true,
		.callers = true,
		.plan_cache = plan_cache_directory(),
	};
	char message[OPENING_MESSAGE_BYTES];
	int r;

	r = opening_new(pid, &target, message);
	if (r < 0) {
		log_error("%s", message);
		return r;
	}
	row(table, "target", GRADE_INFO, NULL, "%s, pid %d", target->facts.command, pid);
	row(table, "interpreter", GRADE_YES, NULL, "CPython %s, layout %s, confirmed; %s",
	    target->facts.python, interpreter_layout(target->interpreter)->name,
	    target->python.path);
	row(table, "allocator", GRADE_INFO, NULL, "%s",
	    allocator_name(interpreter_allocator(target->interpreter)));
	row(table, "JIT", GRADE_INFO, NULL, "%s",
	    interpreter_has_jit(target->interpreter) ? "on: what its code allocates is not seen" :
						       "off");
	if (opening_plan(target, &plan_options, message) < 0) {
		row(table, "probe sites", GRADE_NO, "use --no-probes", "%s", message);
		table->failed = true;
		return 0;
	}
	plan_rows(table, "probe sites", target->python.plan);
	if (target->libc.plan)
		plan_rows(table, "native sites", target->libc.plan);
	else
		row(table, "native sites", GRADE_NO, NULL, "%s", target->native_refusal);
	check_headroom(table, target);
	return 0;
}

int check_run(const struct options *options, const struct sink *sink)
{
	struct table_text table = { .text = buffer_init(TABLE_BYTES_MAX) };
	int r = 0;

	check_kernel(&table);
	for (size_t i = 0; i < options->n_pids && r == 0; i++)
		r = check_target(&table, options->pids[i]);
	if (table.text.data && sink->write(sink->context, table.text.data, table.text.size) < 0)
		r = -EIO;
	buffer_done(&table.text);
	return r < 0 || table.failed ? STATUS_FAILED : STATUS_OK;
}
