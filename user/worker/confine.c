/* SPDX-License-Identifier: MIT */
/* The list was made by reading what workers call, and by running all end-to-end tests with CONFINE_KILL. */
#include "worker/confine.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucontext.h>

#include "base/mem.h"

#define CALLS_MAX 1024
#define WARM_UP_BLOCKS 40            /* together more than a heap keeps at its end (M_TOP_PAD), each less than */
#define WARM_UP_BYTES  100000        /* what gets a mapping of its own */

/* Numbers of calls that were refused, and of those that were told. */
static _Atomic uint64_t refused[CALLS_MAX / 64], told[CALLS_MAX / 64];

const char *confine_unavailable(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return "a build with sanitizers makes calls of its own";
#elif !defined(__x86_64__) && !defined(__aarch64__)
	return "it was never tried on this kind of processor";
#else
	return NULL;
#endif
}

/* --- capabilities ----------------------------------------------------------------------------------------------- */

static int set(uint64_t keep, bool for_good)
{
	cap_t have = cap_get_proc();
	int ret = have ? 0 : -errno;

	for (cap_value_t cap = 0; ret == 0 && cap <= CAP_LAST_CAP; cap++) {
		cap_flag_value_t permitted = CAP_CLEAR;
		bool keeps = keep & (UINT64_C(1) << cap);

		/* this kernel may know fewer than our headers */
		if (cap_get_flag(have, cap, CAP_PERMITTED, &permitted) < 0)
			break;
		if (cap_set_flag(have, CAP_EFFECTIVE, 1, &cap, keeps ? permitted : CAP_CLEAR) < 0 ||
		    (for_good && (cap_set_flag(have, CAP_INHERITABLE, 1, &cap, CAP_CLEAR) < 0 ||
				  (!keeps && cap_set_flag(have, CAP_PERMITTED, 1, &cap, CAP_CLEAR) < 0))))
			ret = -errno;
	}
	if (ret == 0 && cap_set_proc(have) < 0)
		ret = -errno;
	if (have)
		cap_free(have);
	return ret;
}

int confine_capabilities(uint64_t keep)
{
	return set(keep, true);
}

int confine_try_capabilities(uint64_t keep)
{
	return set(keep, false);
}

/* --- system calls ----------------------------------------------------------------------------------------------- */

static const int plain[] = {
	/* bytes in and out; a descriptor comes from accept, socket, or the master */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(close), SCMP_SYS(fcntl),
	SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(recvmmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg),
	SCMP_SYS(sendmmsg), SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(bind), SCMP_SYS(connect), SCMP_SYS(listen),
	SCMP_SYS(shutdown), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
	/* waiting */
	SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
	SCMP_SYS(eventfd2), SCMP_SYS(futex), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(restart_syscall),
	SCMP_SYS(sched_yield), SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time),
	/* memory; mmap and mprotect are below */
	SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(getrandom),
	/* being a thread, and its end; abort() */
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(getcpu), SCMP_SYS(rseq), SCMP_SYS(set_robust_list), SCMP_SYS(membarrier), SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigaction), SCMP_SYS(sigaltstack), SCMP_SYS(tgkill), SCMP_SYS(exit),
	SCMP_SYS(exit_group), SCMP_SYS(fstat), SCMP_SYS(lseek),
};

/* A call that is allowed with some values of one argument alone. */
struct restricted {
	int call;
	struct scmp_arg_cmp argument;
};

static int allow_restricted(scmp_filter_ctx filter)
{
	const struct restricted calls[] = {
		{ SCMP_SYS(socket), SCMP_A0_64(SCMP_CMP_EQ, AF_INET, 0) },
		{ SCMP_SYS(socket), SCMP_A0_64(SCMP_CMP_EQ, AF_INET6, 0) },
		/* what a socket has not sent yet */
		{ SCMP_SYS(ioctl), SCMP_A1_64(SCMP_CMP_EQ, SIOCOUTQNSD, 0) },
		/* nothing that could be run */
		{ SCMP_SYS(mmap), SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		{ SCMP_SYS(mprotect), SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		/* steering's tables, neither programs nor links */
		{ SCMP_SYS(bpf), SCMP_A0_64(SCMP_CMP_EQ, BPF_MAP_LOOKUP_ELEM, 0) },
		{ SCMP_SYS(bpf), SCMP_A0_64(SCMP_CMP_EQ, BPF_MAP_UPDATE_ELEM, 0) },
		{ SCMP_SYS(bpf), SCMP_A0_64(SCMP_CMP_EQ, BPF_MAP_DELETE_ELEM, 0) },
		{ SCMP_SYS(bpf), SCMP_A0_64(SCMP_CMP_EQ, BPF_MAP_LOOKUP_AND_DELETE_ELEM, 0) },
	};
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(calls) && ret == 0; i++)
		ret = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, calls[i].call, 1, &calls[i].argument);
	return ret;
}

/* Some are not there on every architecture, which is fine (-EDOM). */
static int allow_plain(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		int ret = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, plain[i], 0, NULL);

		if (ret < 0 && ret != -EDOM)
			return ret;
	}
	return 0;
}

/* As if the kernel had answered EPERM. */
static void on_refused(int number, siginfo_t *info, void *context)
{
	ucontext_t *machine = context;

	(void)number;
	if (info->si_syscall >= 0 && info->si_syscall < CALLS_MAX)
		atomic_fetch_or(&refused[info->si_syscall / 64], UINT64_C(1) << info->si_syscall % 64);
#if defined(__x86_64__)
	machine->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
	machine->uc_mcontext.regs[0] = (unsigned long long)-EPERM;
#else
	(void)machine;
#endif
}

/* A signal that is blocked when the kernel insists ends the process. */
static int hear_refusals(void)
{
	struct sigaction action = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO };
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, SIGSYS);
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : -pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

/* When a thread's heap shrinks for the first time, glibc reads /proc/sys/vm/overcommit_memory: let it do so now. */
static void shrink_heap(void)
{
	char *blocks[WARM_UP_BLOCKS];

	for (int i = 0; i < WARM_UP_BLOCKS; i++) {
		blocks[i] = mem_alloc(WARM_UP_BYTES);
		if (blocks[i])
			*(volatile char *)blocks[i] = 0;
	}
	for (int i = WARM_UP_BLOCKS; i > 0; i--)
		mem_free(blocks[i - 1]);
}

int confine_calls(enum confine_answer answer, struct err *e)
{
	scmp_filter_ctx filter;
	int ret = 0;

	if (answer == CONFINE_OFF)
		return 0;
	if (confine_unavailable())
		return err_set(e, -ENOTSUP, "%s", confine_unavailable());
	shrink_heap();
	filter = seccomp_init(answer == CONFINE_KILL ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_TRAP);
	if (!filter)
		return err_set(e, -ENOMEM, "out of memory");
	if (answer == CONFINE_REFUSE)
		ret = hear_refusals();
	if (ret == 0)
		ret = allow_plain(filter);
	if (ret == 0)
		ret = allow_restricted(filter);
	if (ret == 0)
		ret = seccomp_load(filter);
	seccomp_release(filter);
	return ret < 0 ? err_set(e, ret, "%s", strerror(-ret)) : 0;
}

static void say_one(int call, void (*say)(void *owner, const char *text), void *owner)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);
	char text[160];

	snprintf(text, sizeof(text), "A worker was refused the system call %s (%d). If something does not work: --set "
		 "seccomp=false, and please tell us.", name ? name : "?", call);
	free(name);
	say(owner, text);
}

void confine_report(void (*say)(void *owner, const char *text), void *owner)
{
	for (int i = 0; i < CALLS_MAX / 64; i++) {
		uint64_t now = atomic_load_explicit(&refused[i], memory_order_relaxed), fresh;

		if (likely(!now))
			continue;
		fresh = now & ~atomic_fetch_or(&told[i], now);
		for (int bit = 0; fresh; bit++, fresh >>= 1)
			if (fresh & 1)
				say_one(i * 64 + bit, say, owner);
	}
}
