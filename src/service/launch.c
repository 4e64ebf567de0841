/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "service/events.h"

/* The status of a shell for a command that was killed. */
#define EXIT_SIGNAL_BASE 128

static void __attribute__((noreturn))
child_execute(char *const argv[], const struct sigaction *on_child, int error_fd)
{
	sigset_t none;
	int error;

	sigaction(SIGCHLD, on_child, NULL);
	sigemptyset(&none); /* what we take by descriptor is not the command's to inherit */
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
		execvp(argv[0], argv);
	error = errno;
	(void)!write(error_fd, &error, sizeof(error));
	_exit(127);
}

/* What the child's exec failed with; 0: it was done (the pipe closed by itself). */
static int read_exec_error(int fd)
{
	int error;

	return read(fd, &error, sizeof(error)) == sizeof(error) ? -error : 0;
}

static void add_signals(sigset_t *ret)
{
	int ending[EVENTS_ENDING_MAX];
	size_t n = events_ending_signals(ending);

	sigemptyset(ret);
	sigaddset(ret, SIGCHLD);
	for (size_t i = 0; i < n; i++)
		sigaddset(ret, ending[i]);
}

/*
 * Until there is a signal: 0 the child has changed its state, -EINTR we are to
 * end.  A terminal's Ctrl-C goes to the command by itself, all else by us.
 */
static int wait_for_signal(const struct launch *launch)
{
	siginfo_t info;
	sigset_t set;

	add_signals(&set);
	while (sigwaitinfo(&set, &info) < 0)
		if (errno != EINTR)
			return -errno;
	if (info.si_signo == SIGCHLD)
		return 0;
	if (events_signal_is_ours_alone(info.si_signo, info.si_code))
		kill(launch->pid, info.si_signo);
	return -EINTR;
}

/* The child's next change of state, a stop of the tracer's among them. */
static int wait_for(struct launch *launch)
{
	int status;
	pid_t pid;
	int r;

	for (;;) {
		pid = waitpid(launch->pid, &status, __WALL | WNOHANG);
		if (pid < 0 && errno != EINTR)
			return -errno;
		if (pid == launch->pid)
			break;
		r = wait_for_signal(launch);
		if (r < 0)
			return r;
	}
	if (WIFEXITED(status) || WIFSIGNALED(status)) {
		launch->exited = true;
		launch->traced = false;
	}
	launch->wait_status = status;
	return 0;
}

/* From the fork to the trap of the exec; -errno: it could not be executed, or we were to end. */
static int wait_for_exec(struct launch *launch, int error_fd)
{
	int r;

	r = wait_for(launch);
	if (r == 0 && launch->exited) {
		r = read_exec_error(error_fd);
		return r < 0 ? r : -ECHILD;
	}
	if (r == 0 && ptrace(PTRACE_SETOPTIONS, launch->pid, NULL,
			     (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC)) < 0)
		r = -errno;
	if (r < 0) {
		kill(launch->pid, SIGKILL);
		while (waitpid(launch->pid, NULL, __WALL) < 0 && errno == EINTR)
			;
	}
	return r;
}

int launch_start(char *const argv[], struct launch *ret)
{
	_cleanup_close_ int read_fd = -1, write_fd = -1;
	/* Ignored by whoever started us, it would neither come nor leave us the exit status. */
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	struct launch launch = { .traced = true };
	struct sigaction inherited;
	sigset_t signals;
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	read_fd = fds[0];
	write_fd = fds[1];
	add_signals(&signals);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	sigaction(SIGCHLD, &usual, &inherited);
	launch.pid = fork();
	if (launch.pid < 0)
		return -errno;
	if (launch.pid == 0)
		child_execute(argv, &inherited, write_fd);
	close(TAKE_FD(write_fd));
	r = wait_for_exec(&launch, read_fd);
	if (r < 0)
		return r;
	*ret = launch;
	return 0;
}

static bool is_system_call_stop(int status)
{
	return WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/* A stop for the tracer's own purposes; any other signal is the child's and is passed on. */
static bool is_tracing_stop(int status)
{
	return is_system_call_stop(status) || (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
}

static int run_to_next_stop(struct launch *launch)
{
	long signal = is_tracing_stop(launch->wait_status) ? 0 : WSTOPSIG(launch->wait_status);

	if (ptrace(PTRACE_SYSCALL, launch->pid, NULL, (void *)signal) < 0 && errno != ESRCH)
		return -errno;
	return wait_for(launch);
}

static bool maps_program(const struct __ptrace_syscall_info *info)
{
	switch (info->entry.nr) {
	case SYS_execve:
	case SYS_execveat:
		return true;
	case SYS_mmap:
		return info->entry.args[2] & PROT_EXEC;
	case SYS_mprotect:
		return info->entry.args[2] & PROT_EXEC;
	}
	return false;
}

/* Has it just come out of a system call that brought code into it? Unknown is yes. */
static bool has_mapped(struct launch *launch)
{
	struct __ptrace_syscall_info info = { 0 };
	bool mapped;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, launch->pid, (void *)sizeof(info), &info) < 0)
		return true; /* before Linux 5.3 */
	mapped = launch->mapping && info.op != PTRACE_SYSCALL_INFO_ENTRY;
	launch->mapping = info.op == PTRACE_SYSCALL_INFO_ENTRY && maps_program(&info);
	return mapped;
}

int launch_until(struct launch *launch, int (*ready)(pid_t pid, void *context), void *context)
{
	int answer = LAUNCH_SOON;
	bool mapped;
	int r;

	for (unsigned stops = 0; stops < LAUNCH_STOPS_MAX; stops++) {
		r = run_to_next_stop(launch);
		if (r < 0)
			return r;
		if (launch->exited)
			return 0;
		if (!is_system_call_stop(launch->wait_status))
			continue;
		mapped = has_mapped(launch);
		if (answer == LAUNCH_OTHER_PROGRAM && !mapped)
			continue;
		answer = ready(launch->pid, context);
		if (answer < 0 || answer == LAUNCH_READY)
			return answer;
	}
	return -ETIME;
}

void launch_release(struct launch *launch)
{
	long signal;

	if (!launch->traced || launch->exited)
		return;
	signal = is_tracing_stop(launch->wait_status) ? 0 : WSTOPSIG(launch->wait_status);
	/* Not stopped, because we were told to end: launch_wait() does it at the next stop. */
	if (ptrace(PTRACE_DETACH, launch->pid, NULL, (void *)signal) == 0)
		launch->traced = false;
}

void launch_wait(struct launch *launch)
{
	int r = 0;

	while (!launch->exited && (r == 0 || r == -EINTR)) {
		r = wait_for(launch);
		if (r == 0)
			launch_release(launch);
	}
}

int launch_exit_status(const struct launch *launch)
{
	if (WIFSIGNALED(launch->wait_status))
		return EXIT_SIGNAL_BASE + WTERMSIG(launch->wait_status);
	return WEXITSTATUS(launch->wait_status);
}
