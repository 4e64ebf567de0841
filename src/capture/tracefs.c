/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "capture/tracefs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "target/process.h"

#define UPROBE_EVENTS "uprobe_events"
#define NAME_MAX_BYTES 64 /* kernel/trace/trace_probe.h: MAX_EVENT_NAME_LEN */
#define LINES_BYTES_MAX (4u << 20)
#define ID_BYTES_MAX 32
#define KERNEL_THREAD 2 /* kthreadd, in the host's pid namespace */
#define GROUP_PREFIX "pyleakd_"

struct tracefs_event {
	char name[2 * NAME_MAX_BYTES]; /* group/event */
	int directory;		       /* tracefs */
	int held;		       /* perf event of a kernel thread */
	int program;		       /* its link to the program */
	int attached;		       /* perf event of the target; -1: not attached */
	uint64_t id;
	char *path;
	bool uretprobe;
	int program_fd; /* whoever's it is */
	__u64 cookie;
	size_t n;
	unsigned long offsets[];
};

DEFINE_CLEANUP(struct tracefs_event *, tracefs_event_free)

/* --- tracefs -------------------------------------------------------------------------------- */

/* An own mount, which nobody else sees and which goes with its descriptor. */
static int mount_apart(void)
{
	_cleanup_close_ int context = fsopen("tracefs", FSOPEN_CLOEXEC);
	int mount;

	if (context < 0 || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mount = fsmount(context, FSMOUNT_CLOEXEC,
			MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return mount < 0 ? -errno : mount;
}

int tracefs_open(void)
{
	/* Before a mount of our own, which may change what those who mounted it had set. */
	static const char *const places[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		_cleanup_close_ int directory = open(places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (directory >= 0 && faccessat(directory, UPROBE_EVENTS, W_OK, 0) == 0)
			return TAKE_FD(directory);
	}
	return mount_apart();
}

/* O_APPEND, because opening it otherwise removes everybody's events. */
static int write_lines(int directory, const char *text, size_t size)
{
	_cleanup_close_ int fd = openat(directory, UPROBE_EVENTS, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return file_write_fd(fd, text, size);
}

static int remove_event(int directory, const char *name)
{
	char line[2 * NAME_MAX_BYTES + 8];
	int n = snprintf(line, sizeof(line), "-:%s\n", name);

	return write_lines(directory, line, (size_t)n);
}

/* --- leftovers ------------------------------------------------------------------------------ */

/* "p:pyleakd_PID_TICKS/eN PATH:…": an event of a pyleakd that does not run. */
static bool is_leftover(const char *line, char ret_name[static 2 * NAME_MAX_BYTES])
{
	struct process_id owner;
	uint64_t number;
	int pid;

	if (sscanf(line, "%*1[pr]:" GROUP_PREFIX "%d_%" SCNu64 "/e%" SCNu64 " ", &pid,
		   &owner.start_ticks, &number) != 3)
		return false;
	owner.pid = pid;
	if (process_is_alive(&owner))
		return false;
	snprintf(ret_name, 2 * NAME_MAX_BYTES, GROUP_PREFIX "%d_%" PRIu64 "/e%" PRIu64, pid,
		 owner.start_ticks, number);
	return true;
}

int tracefs_remove_leftovers(void)
{
	_cleanup_close_ int directory = tracefs_open();
	_cleanup_free_ char *text = NULL;
	char name[2 * NAME_MAX_BYTES], last[2 * NAME_MAX_BYTES] = "";
	char *line, *next;
	int removed = 0;
	int r;

	if (directory < 0)
		return directory;
	r = file_read_at(directory, UPROBE_EVENTS, LINES_BYTES_MAX, &text, NULL);
	if (r < 0)
		return r;
	for (line = text; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		/* An event's lines follow one another. */
		if (!is_leftover(line, name) || !strcmp(name, last))
			continue;
		snprintf(last, sizeof(last), "%s", name);
		removed += remove_event(directory, name) == 0;
	}
	return removed;
}

/* --- events --------------------------------------------------------------------------------- */

static int name_event(struct tracefs_event *event)
{
	static atomic_uint last;
	struct process_id self;
	int r = process_identify(getpid(), &self);

	if (r < 0)
		return r;
	snprintf(event->name, sizeof(event->name), GROUP_PREFIX "%d_%" PRIu64 "/e%u", self.pid,
		 self.start_ticks, atomic_fetch_add(&last, 1));
	return 0;
}

/*
 * By a descriptor, because the kernel takes a path apart at its spaces.  It
 * resolves it now, as this process, and keeps the file.
 */
static int define(const struct tracefs_event *event)
{
	_cleanup_buffer_ struct buffer lines = buffer_init(LINES_BYTES_MAX);
	_cleanup_close_ int file = open(event->path, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return -errno;
	for (size_t i = 0; i < event->n; i++)
		buffer_printf(&lines, "%c:%s /proc/self/fd/%d:0x%lx\n",
			      event->uretprobe ? 'r' : 'p', event->name, file, event->offsets[i]);
	if (lines.error)
		return lines.error;
	return write_lines(event->directory, lines.data, lines.size);
}

static int read_id(struct tracefs_event *event)
{
	char path[sizeof("events//id") + sizeof(event->name)];
	_cleanup_free_ char *text = NULL;
	int r;

	snprintf(path, sizeof(path), "events/%s/id", event->name);
	r = file_read_at(event->directory, path, ID_BYTES_MAX, &text, NULL);
	if (r < 0)
		return r;
	event->id = strtoull(text, NULL, 10);
	return event->id ? 0 : -EBADMSG;
}

/*
 * Disabled, so that the kernel has nothing to do with it when it switches
 * tasks: breakpoints and program go by its being there.
 */
static int open_event(const struct tracefs_event *event, pid_t pid)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attributes),
		.config = event->id,
		.disabled = 1,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attributes, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* By a link and not by an ioctl, which has no cookie; both from 82e6b1eee6a8 on (5.15). */
static int hold(struct tracefs_event *event)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .perf_event.bpf_cookie = event->cookie);

	event->held = open_event(event, KERNEL_THREAD);
	if (event->held < 0)
		return event->held;
	event->program = bpf_link_create(event->program_fd, event->held, BPF_PERF_EVENT, &options);
	return event->program < 0 ? -errno : 0;
}

int tracefs_event_new(const struct tracefs_sites *sites, struct tracefs_event **ret)
{
	CLEANUP(tracefs_event_free) struct tracefs_event *event = NULL;
	int r;

	event = calloc(1, sizeof(*event) + sites->n * sizeof(*sites->offsets));
	if (!event)
		return -ENOMEM;
	event->directory = event->held = event->program = event->attached = -1;
	event->uretprobe = sites->uretprobe;
	event->program_fd = sites->program_fd;
	event->cookie = sites->cookie;
	for (size_t i = 0; i < sites->n; i++)
		if (!event->n || event->offsets[event->n - 1] != sites->offsets[i])
			event->offsets[event->n++] = sites->offsets[i];
	event->path = strdup(sites->path);
	if (!event->path)
		return -ENOMEM;
	event->directory = tracefs_open();
	if (event->directory < 0)
		return event->directory;
	r = name_event(event);
	if (r == 0)
		r = define(event);
	if (r == 0)
		r = read_id(event);
	if (r == 0)
		r = hold(event);
	if (r == 0)
		*ret = TAKE_PTR(event);
	return r;
}

void tracefs_event_free(struct tracefs_event *event)
{
	if (!event)
		return;
	tracefs_event_detach(event);
	if (event->program >= 0)
		close(event->program);
	if (event->held >= 0)
		close(event->held);
	if (event->name[0])
		remove_event(event->directory, event->name);
	if (event->directory >= 0)
		close(event->directory);
	free(event->path);
	free(event);
}

bool tracefs_event_is(const struct tracefs_event *event, const struct tracefs_sites *sites)
{
	size_t at = 0;

	if (event->program_fd != sites->program_fd || event->cookie != sites->cookie ||
	    event->uretprobe != sites->uretprobe || strcmp(event->path, sites->path) != 0)
		return false;
	for (size_t i = 0; i < sites->n; i++) {
		if (i && sites->offsets[i] == sites->offsets[i - 1])
			continue;
		if (at == event->n || event->offsets[at++] != sites->offsets[i])
			return false;
	}
	return at == event->n;
}

int tracefs_event_attach(struct tracefs_event *event, pid_t pid)
{
	int fd;

	if (event->attached >= 0)
		return -EBUSY;
	fd = open_event(event, pid);
	if (fd < 0)
		return fd;
	event->attached = fd;
	return 0;
}

void tracefs_event_detach(struct tracefs_event *event)
{
	if (event->attached >= 0)
		close(TAKE_FD(event->attached));
}

bool tracefs_event_is_attached(const struct tracefs_event *event)
{
	return event->attached >= 0;
}

/* --- kept ones ------------------------------------------------------------------------------ */

static struct tracefs_event *take_at(struct tracefs_kept *kept, size_t at)
{
	struct tracefs_event *event = kept->events[at];

	kept->n--;
	memmove(kept->events + at, kept->events + at + 1, (kept->n - at) * sizeof(event));
	return event;
}

struct tracefs_event *tracefs_kept_take(struct tracefs_kept *kept,
					const struct tracefs_sites *sites)
{
	for (size_t i = 0; i < kept->n; i++)
		if (tracefs_event_is(kept->events[i], sites))
			return take_at(kept, i);
	return NULL;
}

void tracefs_kept_put(struct tracefs_kept *kept, struct tracefs_event *event)
{
	tracefs_event_detach(event);
	if (kept->n == TRACEFS_KEPT_MAX)
		tracefs_event_free(take_at(kept, 0));
	kept->events[kept->n++] = event;
}

void tracefs_kept_done(struct tracefs_kept *kept)
{
	while (kept->n > 0)
		tracefs_event_free(kept->events[--kept->n]);
}
