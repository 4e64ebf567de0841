/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "capture/kernel_log.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "base/cleanup.h"

#define ENOTSUPP 524 /* the kernel's own, in no header of user space */

#define PREFIX "libbpf: "
#define LOG_BEGIN "-- BEGIN PROG LOAD LOG --\n"
#define LOG_END "-- END PROG LOAD LOG --"

static struct kernel_log *taking; /* of kernel_log_begin(): libbpf's printer has no context */

/* --- what libbpf prints --- */

/* A line, or the beginning of it, without what a terminal would obey. */
static void copy_line(char *ret, size_t size, const char *line, size_t line_size)
{
	size_t n = line_size < size - 1 ? line_size : size - 1;

	for (size_t i = 0; i < n; i++)
		ret[i] = isprint((unsigned char)line[i]) ? line[i] : ' ';
	ret[n] = '\0';
}

static bool begins_with(const char *line, size_t size, const char *words)
{
	return size >= strlen(words) && memcmp(line, words, strlen(words)) == 0;
}

/* What stands behind the error in every log: print_verification_stats(), 5.15 to 6.18. */
static bool is_statistics(const char *line, size_t size)
{
	return begins_with(line, size, "processed ") || begins_with(line, size, "stack depth ") ||
	       begins_with(line, size, "verification time ");
}

static void take_verifier(struct kernel_log *log, const char *text)
{
	const char *end = strstr(text, LOG_END);
	size_t size;

	for (const char *line = text; *line && line != end; line += size + (line[size] == '\n')) {
		size = strcspn(line, "\n");
		if (size > 0 && !is_statistics(line, size))
			copy_line(log->verifier, sizeof(log->verifier), line, size);
	}
}

void kernel_log_take(struct kernel_log *log, const char *message)
{
	const char *text = message, *name, *name_end, *verifier;

	if (strncmp(text, PREFIX, strlen(PREFIX)) == 0)
		text += strlen(PREFIX);
	if (strncmp(text, "prog '", 6) != 0 && strncmp(text, "map '", 5) != 0)
		return;
	name = strchr(text, '\'') + 1;
	name_end = strchr(name, '\'');
	if (!name_end)
		return;
	copy_line(log->object, sizeof(log->object), text, (size_t)(name_end + 1 - text));
	verifier = strstr(name_end, LOG_BEGIN);
	if (verifier)
		take_verifier(log, verifier + strlen(LOG_BEGIN));
}

static int __attribute__((format(printf, 2, 0)))
take_printed(enum libbpf_print_level level, const char *format, va_list arguments)
{
	_cleanup_free_ char *message = NULL; /* a verifier's log may have megabytes */

	if (level != LIBBPF_WARN || vasprintf(&message, format, arguments) < 0) {
		message = NULL;
		return 0;
	}
	kernel_log_take(taking, message);
	return 0;
}

void kernel_log_begin(struct kernel_log *log)
{
	*log = (struct kernel_log){ 0 };
	taking = log;
	libbpf_set_print(take_printed);
}

void kernel_log_end(void)
{
	libbpf_set_print(NULL);
	taking = NULL;
}

/* --- what it means --- */

static const struct {
	int error;
	const char *text;
} texts[] = {
	{ EPERM, "it is not permitted (EPERM): run as root or with CAP_BPF and CAP_PERFMON, in a "
		 "container with a seccomp profile that lets bpf() pass, on a kernel that is not "
		 "locked down for it" },
	{ EACCES, "it is not permitted (EACCES): run as root or with CAP_BPF and CAP_PERFMON" },
	{ ENOMEM, "there is no memory for it (ENOMEM): free some, raise the limit of pyleakd's own "
		  "control group (memory.max) or address space (ulimit -v), or make the ring "
		  "smaller by PYLEAKD_RING_BYTES" },
	{ E2BIG, "it is larger than this kernel takes (E2BIG): make the ring smaller by "
		 "PYLEAKD_RING_BYTES; else use a newer kernel, or --no-probes" },
	{ ENOSPC, "a table of the kernel's is full (ENOSPC): end what else holds programs and maps "
		  "(bpftool prog, bpftool map), or use --no-probes" },
	{ EINVAL, "this kernel does not know it (EINVAL): use Linux 5.15 or later, or "
		  "--no-probes" },
	{ ENOSYS, "there is no bpf() here (ENOSYS): use a kernel with CONFIG_BPF_SYSCALL, in a "
		  "container a seccomp profile that lets it pass, or --no-probes" },
	{ EMFILE, "no file descriptor is left (EMFILE): raise pyleakd's limit of open files "
		  "(ulimit -n, LimitNOFILE=)" },
	{ ENFILE, "the host has no file left (ENFILE): raise fs.file-max, or close some" },
	{ EAGAIN, "it was interrupted (EAGAIN): try again" },
	{ EINTR, "it was interrupted (EINTR): try again" },
	{ ENOENT, "the kernel lacks what it refers to (ENOENT): use a kernel with a BTF of its own "
		  "(CONFIG_DEBUG_INFO_BTF), or --no-probes" },
	{ ESRCH, "the kernel lacks what it refers to (ESRCH): use a kernel with a BTF of its own "
		 "(CONFIG_DEBUG_INFO_BTF), or --no-probes" },
	/* bpf_prog_select_runtime(), kernel/bpf/core.c: no interpreter, and no room to compile */
	{ ENOTSUPP, "the kernel could not compile it (ENOTSUPP): turn the compiler on (sysctl "
		    "net.core.bpf_jit_enable=1) and raise net.core.bpf_jit_limit" },
};

const char *kernel_error_text(int error)
{
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i].error == -error)
			return texts[i].text;
	return NULL;
}

bool kernel_error_is_of_the_asking(int error)
{
	return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -ENOSYS;
}

void kernel_log_explain(const struct kernel_log *log, const char *act, int error,
			char ret[KERNEL_LOG_TEXT_BYTES])
{
	const char *text = kernel_error_text(error), *name = strerrorname_np(-error);
	const char *gap = log->object[0] ? " " : "";

	if (log->verifier[0])
		snprintf(ret, KERNEL_LOG_TEXT_BYTES,
			 "%s%s%s: the kernel's verifier refuses it (%s), saying \"%s\": report it "
			 "with the kernel's version (uname -r), and use --no-probes meanwhile",
			 act, gap, log->object, name ? name : "unknown error", log->verifier);
	else if (text)
		snprintf(ret, KERNEL_LOG_TEXT_BYTES, "%s%s%s: %s", act, gap, log->object, text);
	else
		snprintf(ret, KERNEL_LOG_TEXT_BYTES,
			 "%s%s%s: %s: look at what pyleakd check says, or use --no-probes", act,
			 gap, log->object, strerror(-error));
}
