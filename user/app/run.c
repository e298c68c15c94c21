/* SPDX-License-Identifier: MIT */
/*
 * The waiting process: everything is blocked signals and one loop. The command stays in our process group, so that the
 * terminal and the shell's job control work as if we were not there; what the terminal sends reaches it by itself, and
 * what others send to us is passed on.
 */
#include "app/run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "app/program.h"
#include "app/run_command.h"
#include "app/run_folder.h"
#include "app/term_log.h"
#include "base/log.h"
#include "steer/cgroup_child.h"

#define READY_FD 3               /* in the proxy, which keeps nothing else of ours */
#define DRAIN_MS 2000            /* connections that outlive the command */
#define KILL_MS 8000             /* a proxy that does not end */

struct run {
	struct settings *settings;
	struct run_command c;
	struct run_folder folder;
	char cgroup[PATH_MAX];           /* "": none */
	pid_t command, proxy;            /* 0: gone */
	int go_fd, ready_fd, signal_fd;  /* -1: closed */
	sigset_t ignored;                /* by whoever started us: nohup, a script's background job */
	struct strbuf told;              /* by the proxy; see run_command.h */
	bool started;                    /* the command was let go */
	int status;                      /* of the command, as waitpid() says */
	int given_up;                    /* the signal that came before the command was let go; 0: none */
	int64_t ended_ns;                /* when the command did */
	int pushed;                      /* how often the proxy was told to end since */
};

static const int watched[] = { SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGCONT,
			       SIGTSTP, SIGTTIN, SIGTTOU };

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* --- the proxy's process -------------------------------------------------------------------------------------- */

static void proxy_ready(void *owner __unused, uint16_t port, struct str pem)
{
	struct strbuf text = { 0 };

	strbuf_addf(&text, "%u\n%.*s", port, (int)pem.len, pem.ptr);
	/* A pipe takes a certificate at once; when nobody reads any more, we are told to end. */
	if (!text.failed)
		(void)!write(READY_FD, text.ptr, text.len);
	strbuf_fini(&text);
	close(READY_FD);
}

/* Neither the terminal nor the streams of the command: a pipe behind it must end when it ends. */
static _Noreturn void proxy_main(struct run *r, int ready_fd, pid_t parent)
{
	const struct program_host host = { .flow_fd = STDERR_FILENO, .ready = proxy_ready };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), status = 1;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_NAME, "mitm-bpf-proxy");
	setsid();
	if (getppid() == parent && null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
	    (ready_fd == READY_FD || dup2(ready_fd, READY_FD) >= 0)) {
		close_range(READY_FD + 1, ~0u, 0);
		sigprocmask(SIG_SETMASK, &r->c.signals, NULL);
		status = program_run(r->settings, &host);
	}
	term_log_flush();
	_exit(status);
}

/* --- before the start ----------------------------------------------------------------------------------------- */

/* Steering and mounts need these; in a container, root often has neither. */
static bool is_privileged(void)
{
	static const cap_value_t needed[] = { CAP_SYS_ADMIN, CAP_NET_ADMIN };
	cap_t have = cap_get_proc();
	bool all = have;

	for (size_t i = 0; i < ARRAY_SIZE(needed) && all; i++) {
		cap_flag_value_t value = CAP_CLEAR;

		all = cap_get_flag(have, needed[i], CAP_EFFECTIVE, &value) == 0 && value == CAP_SET;
	}
	if (have)
		cap_free(have);
	return all;
}

static int check_settings(const struct settings *s, struct err *e)
{
	static const char *const names[] = { "mode", "rfile", "server" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (settings_changed(s, names[i]))
			return err_set(e, -EINVAL, "`mitm-bpf run` decides itself how its command is intercepted: "
				       "leave the option %s away.", names[i]);
	return 0;
}

/* The command's group is all that is intercepted; without one, its pid and who descends from it. */
static int steer_command(struct run *r, struct err *e)
{
	char mode[32];
	int ret;

	if (!r->c.privileged) {
		log_line(LOG_WARN, "run", "Without root, only programs that honour HTTP_PROXY and HTTPS_PROXY are "
			 "seen; sudo mitm-bpf run sees all.");
		ret = settings_put(r->settings, "listen_host", "127.0.0.1", e);
		return ret == 0 && !settings_given(r->settings, "listen_port") ?
		       settings_put(r->settings, "listen_port", "0", e) : ret;
	}
	ret = r->cgroup[0] ? cgroup_child_enter(r->cgroup, r->command, e) : -ENOENT;
	if (ret == 0)
		ret = settings_put(r->settings, "cgroup", r->cgroup, e);
	snprintf(mode, sizeof(mode), ret == 0 ? "local" : "local:%d", (int)r->command);
	if (ret < 0 && r->cgroup[0])
		log_line(LOG_WARN, "run", "%s", e->text);
	return settings_put(r->settings, "mode", mode, e);
}

static void make_group(struct run *r)
{
	struct err e = { 0 };

	if (!r->c.privileged || cgroup_child_make(r->cgroup, settings_text(r->settings, "cgroup"), &e) == 0)
		return;
	log_line(LOG_DEBUG, "run", "By process id instead of cgroup: %s", e.text);
	r->cgroup[0] = 0;
}

static int hold_signals(struct run *r, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigemptyset(&r->ignored);
	for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
		struct sigaction now;

		sigaddset(&set, watched[i]);
		if (sigaction(watched[i], NULL, &now) == 0 && now.sa_handler == SIG_IGN)
			sigaddset(&r->ignored, watched[i]);
	}
	/* Who ignores SIGCHLD is never told how his children ended. */
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_BLOCK, &set, &r->c.signals);
	r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return r->signal_fd < 0 ? err_set(e, -errno, "cannot watch signals: %m") : 0;
}

static int start_command(struct run *r, struct err *e)
{
	int go[2];

	if (pipe2(go, O_CLOEXEC) < 0)
		return err_set(e, -errno, "no pipe: %m");
	r->command = fork();
	if (r->command == 0) {
		close(go[1]);
		r->c.go_fd = go[0];
		run_command_exec(&r->c);
	}
	close(go[0]);
	r->go_fd = go[1];
	if (r->command > 0)
		return 0;
	r->command = 0;
	return err_set(e, -errno, "cannot start a process: %m");
}

static int start_proxy(struct run *r, struct err *e)
{
	pid_t parent = getpid();
	int ready[2];

	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_set(e, -errno, "no pipe: %m");
	r->proxy = fork();
	if (r->proxy == 0)
		proxy_main(r, ready[1], parent);
	close(ready[1]);
	r->ready_fd = ready[0];
	if (r->proxy > 0)
		return 0;
	r->proxy = 0;
	return err_set(e, -errno, "cannot start a process: %m");
}

/* A standard stream that is closed stays so for the command, but none of our descriptors may get its number. */
static void fill_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static int start(struct run *r, const struct run_config *config, struct err *e)
{
	int ret = check_settings(r->settings, e);

	fill_streams();
	r->c.words = config->words;
	r->c.sigpipe_ignored = config->sigpipe_ignored;
	r->c.loopback = settings_bool(r->settings, "steer_loopback");
	if (ret == 0)
		ret = run_user_find(&r->c.user, config->user, e);
	if (ret == 0)
		ret = run_folder_make(&r->folder, e);
	r->c.folder = r->folder.path;
	r->c.privileged = is_privileged();
	if (ret == 0) {
		make_group(r);
		ret = hold_signals(r, e);
	}
	if (ret == 0)
		ret = start_command(r, e);
	if (ret == 0)
		ret = steer_command(r, e);
	if (ret == 0)
		ret = start_proxy(r, e);
	return ret;
}

/* --- while it runs -------------------------------------------------------------------------------------------- */

/* What the proxy told, the command is told: it goes. Without a word from the proxy it ends by itself. */
static void let_go(struct run *r)
{
	const char *at = r->told.ptr;
	size_t left = r->told.failed ? 0 : r->told.len;

	r->started = left > 0;
	while (left) {
		ssize_t put = write(r->go_fd, at, left);

		if (put <= 0)
			break;
		at += put;
		left -= (size_t)put;
	}
	close_fd(&r->go_fd);
	close_fd(&r->ready_fd);
}

static void hear_proxy(struct run *r)
{
	char part[4096];
	ssize_t got = read(r->ready_fd, part, sizeof(part));

	if (got > 0)
		strbuf_add(&r->told, part, (size_t)got);
	else if (got == 0 || errno != EINTR)
		let_go(r);
}

/* Stops as the command did, so that the shell takes the terminal back; goes on when the shell says so. */
static void stop_too(struct run *r, int number)
{
	struct sigaction normal = { .sa_handler = SIG_DFL }, before;
	sigset_t one;

	if (number != SIGTSTP && number != SIGTTIN && number != SIGTTOU)
		return;
	sigemptyset(&one);
	sigaddset(&one, number);
	sigaction(number, &normal, &before);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	sigprocmask(SIG_BLOCK, &one, NULL);
	sigaction(number, &before, NULL);
	if (r->command)
		kill(r->command, SIGCONT);
}

static void reap(struct run *r)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (WIFSTOPPED(status)) {
			if (pid == r->command)
				stop_too(r, WSTOPSIG(status));
			continue;
		}
		if (pid == r->command) {
			r->command = 0;
			r->status = status;
			r->ended_ns = now_ns();
		} else if (pid == r->proxy) {
			r->proxy = 0;
			if (r->started && r->command)
				log_line(LOG_ERROR, "run", "The proxy has died: the command's new connections go "
					 "direct, and are not seen.");
		}
	}
}

/* Whether it means that we shall end. */
static bool is_end(const struct run *r, int number)
{
	return (number == SIGINT || number == SIGTERM || number == SIGQUIT || number == SIGHUP) &&
	       sigismember(&r->ignored, number) == 0;
}

/*
 * The terminal signals the whole group; only what was meant for us alone is passed on, also what we were started to
 * ignore: the command inherited that, and may have thought better of it.
 */
static void on_signal(struct run *r, const struct signalfd_siginfo *info)
{
	int number = (int)info->ssi_signo;

	if (number == SIGCHLD) {
		reap(r);
		return;
	}
	if (!r->command) {
		if (r->proxy && is_end(r, number))
			kill(r->proxy, SIGTERM);
		return;
	}
	if (!r->started && is_end(r, number)) {
		/* The command waits, with these blocked, for a proxy that may never come. */
		r->given_up = number;
		kill(r->command, SIGKILL);
		return;
	}
	if (info->ssi_code == SI_KERNEL)
		return;
	kill(r->command, number);
}

static void hear_signals(struct run *r)
{
	struct signalfd_siginfo info;

	while (read(r->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		on_signal(r, &info);
}

/* The command is gone: the proxy finishes what is in flight, is hurried, and in the end killed. Until when to wait. */
static int end_proxy(struct run *r)
{
	static const struct {
		int after_ms, number;
	} steps[] = { { 0, SIGTERM }, { DRAIN_MS, SIGTERM }, { KILL_MS, SIGKILL } };
	int64_t passed_ms = (now_ns() - r->ended_ns) / 1000000;

	while (r->pushed < (int)ARRAY_SIZE(steps) && passed_ms >= steps[r->pushed].after_ms)
		kill(r->proxy, steps[r->pushed++].number);
	return r->pushed < (int)ARRAY_SIZE(steps) ? (int)(steps[r->pushed].after_ms - passed_ms) : -1;
}

static void wait_for_all(struct run *r)
{
	while (r->command || r->proxy) {
		struct pollfd fds[] = { { r->signal_fd, POLLIN, 0 }, { r->ready_fd, POLLIN, 0 } };

		poll(fds, ARRAY_SIZE(fds), !r->command && r->proxy ? end_proxy(r) : -1);
		if (fds[1].revents)
			hear_proxy(r);
		if (fds[0].revents)
			hear_signals(r);
	}
}

/* --- after it ------------------------------------------------------------------------------------------------- */

/* As the command ended: a shell whose loop is interrupted looks at the signal, not at 130. */
static int leave(struct run *r)
{
	const struct rlimit none = { 0, 0 };
	sigset_t one;
	int number;

	if (!r->started && !r->given_up)
		return RUN_FAILED;
	if (!r->given_up && WIFEXITED(r->status))
		return WEXITSTATUS(r->status);
	number = r->given_up ? r->given_up : WTERMSIG(r->status);
	setrlimit(RLIMIT_CORE, &none);
	signal(number, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	return 128 + number;
}

int run_tree(const struct run_config *config)
{
	struct run r = { .settings = config->settings, .go_fd = -1, .ready_fd = -1, .signal_fd = -1,
			 .folder = { .lock_fd = -1 } };
	struct err e = { 0 };

	if (start(&r, config, &e) < 0) {
		log_line(LOG_ERROR, "run", "%s", e.text);
		close_fd(&r.go_fd);
	}
	wait_for_all(&r);
	if (r.cgroup[0])
		cgroup_child_remove(r.cgroup);
	run_folder_remove(&r.folder);
	strbuf_fini(&r.told);
	close_fd(&r.signal_fd);
	term_log_flush();
	return leave(&r);
}
