/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

/* The status of a shell for a command that was killed. */
#define EXIT_SIGNAL_BASE 128

static void __attribute__((noreturn)) child_execute(char *const argv[], int error_fd)
{
	sigset_t none;
	int error;

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

static int wait_for(struct launch *launch)
{
	int status;

	while (waitpid(launch->pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) || WIFSIGNALED(status)) {
		launch->exited = true;
		launch->traced = false;
	}
	launch->wait_status = status;
	return status;
}

int launch_start(char *const argv[], struct launch *ret)
{
	_cleanup_close_ int read_fd = -1, write_fd = -1;
	struct launch launch = { .traced = true };
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	read_fd = fds[0];
	write_fd = fds[1];
	launch.pid = fork();
	if (launch.pid < 0)
		return -errno;
	if (launch.pid == 0)
		child_execute(argv, write_fd);
	close(TAKE_FD(write_fd));
	r = wait_for(&launch); /* the trap of the exec, or the exit after its failure */
	if (r < 0)
		return r;
	if (launch.exited) {
		r = read_exec_error(read_fd);
		return r < 0 ? r : -ECHILD;
	}
	if (ptrace(PTRACE_SETOPTIONS, launch.pid, NULL,
		   (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC)) < 0)
		return -errno;
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

int launch_until(struct launch *launch, int (*ready)(pid_t pid, void *context), void *context)
{
	int r;

	for (unsigned stops = 0; stops < LAUNCH_STOPS_MAX; stops++) {
		r = run_to_next_stop(launch);
		if (r < 0)
			return r;
		if (launch->exited)
			return 0;
		if (!is_system_call_stop(launch->wait_status))
			continue;
		r = ready(launch->pid, context);
		if (r != 0)
			return r;
	}
	return -ETIME;
}

void launch_release(struct launch *launch)
{
	long signal;

	if (!launch->traced || launch->exited)
		return;
	signal = is_tracing_stop(launch->wait_status) ? 0 : WSTOPSIG(launch->wait_status);
	ptrace(PTRACE_DETACH, launch->pid, NULL, (void *)signal);
	launch->traced = false;
}

bool launch_reap(struct launch *launch, bool wait)
{
	int status;
	pid_t pid;

	if (launch->exited)
		return true;
	do
		pid = waitpid(launch->pid, &status, wait ? 0 : WNOHANG);
	while (pid < 0 && errno == EINTR);
	if (pid != launch->pid || !(WIFEXITED(status) || WIFSIGNALED(status)))
		return false;
	launch->exited = true;
	launch->wait_status = status;
	return true;
}

int launch_exit_status(const struct launch *launch)
{
	if (WIFSIGNALED(launch->wait_status))
		return EXIT_SIGNAL_BASE + WTERMSIG(launch->wait_status);
	return WEXITSTATUS(launch->wait_status);
}
