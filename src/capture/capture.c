/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The four phases. */
#include "capture/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "capture/capture_private.h"

#define RING_BYTES_MIN (64u << 10)
#define RING_BYTES_MAX (1u << 30)
/* The consumer is woken when the ring is this full; below, it comes by itself. */
#define WAKEUP_FRACTION 8
#define PROC_PATH_MAX 64
#define MAPS_BYTES_MAX (16u << 20)
#define STACK_SEED 0x243f6a8885a308d3ULL /* any number will do: pi's first digits */

static int check_options(const struct capture_options *options, struct fault *reterr_fault)
{
	size_t ring = options->ring_bytes;

	if (options->pid <= 0)
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS,
				 (uint64_t)options->pid, "pid");
	if (options->n_files > CAPTURE_FILES_MAX)
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS, options->n_files,
				 "files");
	if (ring && (ring < RING_BYTES_MIN || ring > RING_BYTES_MAX || (ring & (ring - 1))))
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS, ring, "ring_bytes");
	return 0;
}

/* The kernel silently sets no breakpoint in a process whose first thread has exited. */
int capture_check_leader(pid_t pid, struct fault *reterr_fault)
{
	_cleanup_free_ char *text = NULL;
	char path[PROC_PATH_MAX];
	const char *state;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = file_read(path, 4096, &text, NULL);
	if (r < 0)
		return fault_set(reterr_fault, -ESRCH, REASON_NOT_MAPPED, 0, "process");
	state = strrchr(text, ')'); /* the name before may hold anything */
	if (!state || state[1] != ' ')
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, 0, "/proc/PID/stat");
	if (state[2] == 'Z' || state[2] == 'X')
		return fault_set(reterr_fault, -EOWNERDEAD, REASON_NO_LEADER, 0, NULL);
	return 0;
}

/* What the programs can't do without. */
static int check_features(const struct kernel_features *features, struct fault *reterr_fault)
{
	const char *missing = kernel_features_missing(features);

	if (missing && kernel_error_is_of_the_asking(features->error))
		return fault_set(reterr_fault, features->error, REASON_PROGRAMS_REFUSED, 0,
				 kernel_error_text(features->error));
	if (missing)
		return fault_set(reterr_fault, -EOPNOTSUPP, REASON_KERNEL_LACKS, 0, missing);
	return 0;
}

static int prepare_files(struct capture *capture, const struct capture_options *options,
			 struct fault *reterr_fault)
{
	int r;

	for (size_t i = 0; i < options->n_files; i++) {
		struct probed_file *file = &capture->files[i];

		r = probed_file_init(file, &options->files[i], options->empty_programs);
		if (r < 0)
			return fault_set(reterr_fault, r, REASON_TOO_LARGE, 0, "plan");
		capture->n_files++;
		r = sites_guard(capture, file, reterr_fault);
		if (r < 0)
			return r;
	}
	return 0;
}

int capture_prepare(const struct capture_options *options, struct capture **ret,
		    struct fault *reterr_fault)
{
	CLEANUP(capture_free) struct capture *capture = NULL;
	int r;

	r = check_options(options, reterr_fault);
	if (r < 0)
		return r;
	capture = calloc(1, sizeof(*capture));
	if (!capture)
		return -ENOMEM;
	capture->memory_fd = -1;
	capture->pid = options->pid;
	capture->windows = options->windows;
	capture->native = options->native;
	capture->empty_programs = options->empty_programs;
	capture->ring_bytes =
		options->ring_bytes ? options->ring_bytes : CAPTURE_RING_BYTES_DEFAULT;
	r = settings_fill(options, &capture->settings, reterr_fault);
	if (r < 0)
		return r;
	capture->settings.wakeup_bytes = capture->ring_bytes / WAKEUP_FRACTION;
	r = capture_check_leader(options->pid, reterr_fault);
	if (r < 0)
		return r;
	kernel_features_probe(&capture->features);
	r = check_features(&capture->features, reterr_fault);
	if (r < 0)
		return r;
	r = prepare_files(capture, options, reterr_fault);
	if (r < 0)
		return r;
	windows_settings(capture);
	capture->settings.cookie_by_address = capture->features.attach == KERNEL_ATTACH_TRACEFS;
	*ret = TAKE_PTR(capture);
	return 0;
}

void capture_free(struct capture *capture)
{
	if (!capture)
		return;
	capture_detach(capture);
	windows_done(capture);
	for (size_t i = 0; i < capture->n_files; i++)
		probed_file_done(&capture->files[i]);
	tracefs_kept_done(&capture->kept);
	ring_buffer__free(capture->ring);
	capture_bpf__destroy(capture->skeleton);
	free(capture);
}

uint64_t capture_cost_bytes(const struct capture *capture)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < capture->n_files; i++)
		bytes += sites_cost_bytes(&capture->files[i]);
	return bytes;
}

/* Only what has sites is loaded: each program takes the verifier some milliseconds. */
static void choose_programs(struct capture *capture)
{
	struct capture_bpf *skeleton = capture->skeleton;
	bool trampolines = capture->native && capture->features.trampolines;
	bool wanted[SITE_PROGRAMS] = {false};

	for (size_t i = 0; i < capture->n_files; i++) {
		for (size_t j = 0; j < capture->files[i].n_sites; j++) {
			const struct capture_site *site = &capture->files[i].sites[j];

			wanted[site->program] = true;
			if (capture->windows && site->plan->kind == SITE_FRESH)
				wanted[PROGRAM_NEW_POOL] = true;
		}
	}
	for (int i = 0; i < SITE_PROGRAMS; i++) {
		bpf_program__set_autoload(capture_program(capture, i), wanted[i]);
		probe_program_prepare(capture_program(capture, i), capture->features.attach);
	}
	bpf_program__set_autoload(skeleton->progs.on_mmap, trampolines);
	bpf_program__set_autoload(skeleton->progs.on_munmap, trampolines);
	bpf_program__set_autoload(skeleton->progs.on_mremap, trampolines);
	bpf_program__set_autoload(skeleton->progs.on_brk_enter, trampolines);
	bpf_program__set_autoload(skeleton->progs.on_brk, trampolines);
	bpf_program__set_autoload(skeleton->progs.on_sys_exit, capture->native && !trampolines);
}

/* Where the heap of brk ends now, for the first record to say what it was before; 0: none. */
static uint64_t current_break(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	char path[PROC_PATH_MAX];
	char *line, *next;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	if (file_read(path, MAPS_BYTES_MAX, &text, NULL) < 0)
		return 0;
	for (line = text; line && *line; line = next) {
		unsigned long long start, end;
		bool heap;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		heap = strstr(line, " [heap]") != NULL;
		if (heap && sscanf(line, "%llx-%llx", &start, &end) == 2)
			return end;
	}
	return 0;
}

/* *ret_act: what is being done, of a failure what failed. */
static int load_and_map(struct capture *capture, const char **ret_act)
{
	int r;

	*ret_act = "loading";
	r = capture_bpf__load(capture->skeleton);
	if (r < 0)
		return r;
	*ret_act = "mapping the ring";
	r = ring_open(capture);
	if (r < 0)
		return r;
	*ret_act = "mapping what the programs count";
	r = windows_map(capture);
	if (r < 0)
		return r;
	*ret_act = "filling the table of sites";
	return cookies_fill(capture);
}

int capture_load(struct capture *capture, struct fault *reterr_fault)
{
	struct kernel_log log;
	const char *act;
	int r;

	if (capture->skeleton)
		return -EALREADY;
	capture->load_refusal[0] = '\0';
	capture->skeleton = capture_bpf__open();
	if (!capture->skeleton)
		return fault_set(reterr_fault, -errno, REASON_KERNEL_LACKS, 0, "opening programs");
	choose_programs(capture);
	capture->skeleton->rodata->settings = capture->settings;
	capture->skeleton->bss->stack_seed = STACK_SEED;
	capture->skeleton->bss->break_before = current_break(capture->pid);
	capture->skeleton->bss->break_max = capture->skeleton->bss->break_before;
	bpf_map__set_max_entries(capture->skeleton->maps.ring, (uint32_t)capture->ring_bytes);
	windows_sizes(capture);
	cookies_sizes(capture);
	kernel_log_begin(&log);
	r = load_and_map(capture, &act);
	kernel_log_end();
	if (r == 0)
		return 0;
	kernel_log_explain(&log, act, r, capture->load_refusal);
	ring_buffer__free(capture->ring);
	capture->ring = NULL;
	capture_bpf__destroy(capture->skeleton);
	capture->skeleton = NULL;
	return fault_set(reterr_fault, r, REASON_PROGRAMS_REFUSED, 0, act);
}

const char *capture_load_refusal(const struct capture *capture)
{
	return capture->load_refusal;
}

static int attach_all(struct capture *capture, struct fault *reterr_fault)
{
	int r;

	r = links_attach_host(capture, reterr_fault);
	if (r < 0 || capture->windows)
		return r;
	for (size_t i = 0; i < capture->n_files; i++) {
		struct probed_file *file = &capture->files[i];

		r = sites_compare(capture, file, &file->all, capture->memory_fd);
		if (r < 0)
			return fault_set(reterr_fault, r, REASON_NOT_MAPPED, 0, "process");
		r = links_attach(capture, file, &file->all, NULL, reterr_fault);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < capture->n_files; i++) {
		struct probed_file *file = &capture->files[i];

		capture->n_attached +=
			sites_read_back(capture, file, &file->all, capture->memory_fd);
	}
	return 0;
}

int capture_attach(struct capture *capture, struct fault *reterr_fault)
{
	char path[PROC_PATH_MAX];
	int r;

	if (!capture->skeleton)
		return -EBADF;
	capture_detach(capture);
	r = capture_check_leader(capture->pid, reterr_fault);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/mem", capture->pid);
	capture->memory_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (capture->memory_fd < 0)
		return fault_set(reterr_fault, -errno, REASON_READ_FAILED, 0, "/proc/PID/mem");
	sites_refusals_reset(capture);
	r = attach_all(capture, reterr_fault);
	if (r < 0)
		capture_detach(capture);
	else if (!capture->windows)
		close(TAKE_FD(capture->memory_fd));
	return r;
}

int capture_activate(struct capture *capture)
{
	if (!capture->skeleton)
		return -EBADF;
	__atomic_store_n(&capture->skeleton->bss->active, 1, __ATOMIC_RELEASE);
	return 0;
}

void capture_deactivate(struct capture *capture)
{
	if (capture->skeleton)
		__atomic_store_n(&capture->skeleton->bss->active, 0, __ATOMIC_RELEASE);
}

void capture_detach(struct capture *capture)
{
	capture_deactivate(capture);
	capture_close_all(capture);
	for (size_t i = 0; i < capture->n_files; i++)
		links_detach(&capture->files[i].all, NULL);
	links_detach_host(capture); /* last: forks are told of while there are breakpoints */
	capture_time_programs(capture, false);
	if (capture->memory_fd >= 0)
		close(TAKE_FD(capture->memory_fd));
	capture->n_attached = 0;
}

size_t capture_refusals(const struct capture *capture, const struct capture_refusal **ret)
{
	*ret = capture->refusals;
	return capture->n_refusals;
}

size_t capture_attached_sites(const struct capture *capture)
{
	return capture->n_attached;
}

int capture_counters(const struct capture *capture, struct capture_counters *ret)
{
	struct capture_counters sum = {.malformed = capture->malformed};
	_cleanup_free_ uint8_t *values = NULL;
	int n_cpus = libbpf_num_possible_cpus();
	uint32_t zero = 0;
	size_t stride;

	if (!capture->skeleton)
		return -EBADF;
	if (n_cpus < 0)
		return n_cpus;
	stride = (bpf_map__value_size(capture->skeleton->maps.per_cpu) + 7u) & ~7u;
	values = calloc((size_t)n_cpus, stride);
	if (!values)
		return -ENOMEM;
	if (bpf_map_lookup_elem(bpf_map__fd(capture->skeleton->maps.per_cpu), &zero, values))
		return -errno;
	for (int cpu = 0; cpu < n_cpus; cpu++) {
		struct counters each; /* they begin what is kept for each CPU */

		memcpy(&each, values + (size_t)cpu * stride, sizeof(each));
		for (int i = 0; i < SITE_KINDS; i++)
			sum.hits[i] += each.hits[i];
		for (int i = 0; i < WIRE_LOSS_MAX; i++)
			sum.losses[i] += each.losses[i];
		sum.mappings += each.mappings;
	}
	*ret = sum;
	return 0;
}

int capture_programs(const struct capture *capture, struct capture_program *ret, size_t max)
{
	struct bpf_program *program;
	size_t n = 0;

	if (!capture->skeleton)
		return -EBADF;
	bpf_object__for_each_program(program, capture->skeleton->obj)
	{
		struct bpf_prog_info info = {0};
		uint32_t size = sizeof(info);
		int fd = bpf_program__fd(program);

		if (fd < 0 || n == max)
			continue;
		if (bpf_prog_get_info_by_fd(fd, &info, &size))
			return -errno;
		ret[n++] = (struct capture_program){
			.name = bpf_program__name(program),
			.of_site = bpf_program__type(program) == BPF_PROG_TYPE_KPROBE,
			.runs = info.run_cnt,
			.run_ns = info.run_time_ns,
		};
	}
	return (int)n;
}

int capture_time_programs(struct capture *capture, bool on)
{
	if (!on && capture->statistics > 0)
		close(TAKE_FD(capture->statistics));
	if (!on)
		capture->statistics = 0;
	if (!on || capture->statistics > 0)
		return 0;
	capture->statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (capture->statistics > 0)
		return 0;
	capture->statistics = 0;
	return -errno;
}

/*
 * With another seed every stack has another id, and is sent when it is seen
 * next.  Programs that run just now may still use the old one, which is
 * known.
 */
int capture_forget_stacks(struct capture *capture)
{
	if (!capture->skeleton)
		return -EBADF;
	__atomic_fetch_add(&capture->skeleton->bss->stack_seed, 0x9e3779b97f4a7c15ULL,
			   __ATOMIC_RELEASE);
	return 0;
}

void capture_mappings(struct capture *capture, bool told)
{
	if (capture->skeleton)
		__atomic_store_n(&capture->skeleton->bss->mappings_silent, !told, __ATOMIC_RELEASE);
}

int capture_add_thread(struct capture *capture, uint64_t pthread_address, uint64_t tstate)
{
	if (!capture->skeleton)
		return -EBADF;
	if (bpf_map_update_elem(bpf_map__fd(capture->skeleton->maps.threads), &pthread_address,
				&tstate, BPF_ANY))
		return -errno;
	return 0;
}

int capture_release_children(struct capture *capture)
{
	int r = 0;

	if (capture->windows)
		return windows_release_others(capture);
	for (size_t i = 0; i < capture->n_files && r == 0; i++)
		r = links_release_others(capture, &capture->files[i], &capture->files[i].all);
	return r;
}
