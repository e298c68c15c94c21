/* SPDX-License-Identifier: MIT */
/*
 * Each worker has listeners of its own, alone on a port that the kernel chose: before Linux 6.6 a socket that shares
 * its port cannot be assigned, and the program spreads connections over workers by itself.
 */
#include "app/forward.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/socket.h"
#include "steer/tc.h"
#include "steer/udp_ports.h"

#define RECEIVE_BYTES (4 << 20)

#ifndef IP_RECVORIGDSTADDR
#define IP_RECVORIGDSTADDR 20
#endif
#ifndef IPV6_RECVORIGDSTADDR
#define IPV6_RECVORIGDSTADDR 74
#endif
#ifndef UDP_GRO
#define UDP_GRO 104                  /* Linux 5.0 */
#endif

struct forward {
	struct tc_options options;
	struct udp_ports ports;
	bool udp;                    /* some are meant */
	bool left;                   /* so they were, but they are left alone */
	int poll_fd;
	bool fail_closed;            /* asked for, and not said yet that it is not to be had */
	struct tc *tc;               /* NULL: not needed yet; another thread reads it for the lease */
};

int forward_new(struct forward **out, const struct settings *settings, struct err *e)
{
	const char *attach = settings_text(settings, "tc_attach");
	struct forward *f = mem_zalloc(sizeof(*f));
	int ret;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	f->options.how = strcmp(attach, "tcx") == 0 ? TC_TCX : strcmp(attach, "clsact") == 0 ? TC_CLSACT : TC_AUTO;
	f->options.block_quic = settings_bool(settings, "block_quic");
	f->options.udp_ports = f->ports.bits;
	f->fail_closed = settings_bool(settings, "fail_closed");
	ret = udp_ports_parse(&f->ports, str_of(settings_text(settings, "udp")), e);
	f->udp = !udp_ports_none(&f->ports);
	f->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (ret == 0 && f->poll_fd < 0)
		ret = err_set(e, -errno, "cannot watch descriptors: %m");
	if (ret < 0) {
		if (f->poll_fd >= 0)
			close(f->poll_fd);
		mem_free(f);
		return ret;
	}
	*out = f;
	return 0;
}

void forward_free(struct forward *f)
{
	if (!f)
		return;
	tc_free(f->tc);
	close(f->poll_fd);
	mem_free(f);
}

void forward_leave_udp(struct forward *f)
{
	f->left = f->udp;
	f->udp = false;
}

int forward_check(struct str data, struct err *e)
{
	struct tc_spec spec;
	int ret = tc_spec_parse(&spec, data, e);

	tc_spec_fini(&spec);
	return ret;
}

static int open_tc(struct forward *f, struct err *e)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct tc *tc = NULL;
	int ret;

	if (f->tc)
		return 0;
	ret = tc_open(&tc, &f->options, e);
	if (ret == 0 && epoll_ctl(f->poll_fd, EPOLL_CTL_ADD, tc_fd(tc), &event) < 0) {
		ret = err_set(e, -errno, "cannot watch descriptors: %m");
		tc_free(tc);
	}
	if (ret == 0)
		__atomic_store_n(&f->tc, tc, __ATOMIC_RELEASE);
	return ret;
}

int forward_add(struct forward *f, struct forward_set *set, const struct proxy_mode *mode, struct err *e)
{
	struct tc_spec spec;
	int ret = open_tc(f, e);

	*set = (struct forward_set){ 0 };
	if (ret < 0)
		return ret;
	ret = tc_spec_parse(&spec, mode->data, e);
	if (ret < 0) {
		tc_spec_fini(&spec);
		return ret;
	}
	ret = tc_add(f->tc, &spec, e);
	if (ret >= 0)
		set->slot = ret + 1;
	if (ret >= 0 && f->left)
		log_line(LOG_WARN, "servers", "UDP is not taken, because workers gave up the privilege for it at the "
			 "start: start the program with an --interface.");
	if (ret >= 0 && f->fail_closed)
		log_line(LOG_WARN, "servers", "Forwarded traffic goes direct when mitm-bpf ends, also with "
			 "fail_closed: what it must not reach then is a matter for this machine's firewall.");
	f->fail_closed &= ret < 0;
	return MIN(ret, 0);
}

/* A bound socket that is not prepared yet, or -errno with a sentence. */
static int open_bound(const struct addr *at, bool udp, struct err *e)
{
	int fd = udp ? socket_transparent_dgram(at, false) : socket_listen(at, false, e), ret;

	if (fd < 0)
		return udp ? err_set(e, fd, "no transparent UDP socket for forwarded traffic: %s", strerror(-fd)) : fd;
	ret = udp ? 0 : socket_set_transparent(fd);
	if (ret == 0)
		return fd;
	close(fd);
	return err_set(e, ret, "no transparent listener for forwarded traffic: %s; it needs root or CAP_NET_ADMIN",
		       strerror(-ret));
}

/* Where datagrams were going is told with each; bursts wait instead of getting lost. */
static int prepare_udp(int fd, bool v6)
{
	int one = 1, bytes = RECEIVE_BYTES;

	if (setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVORIGDSTADDR : IP_RECVORIGDSTADDR, &one,
		       sizeof(one)) < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	(void)setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one));
	return 0;
}

static int open_listener(struct forward *f, const struct forward_set *set, struct worker_listener *l, struct err *e)
{
	bool v6 = l->at.family == 6;
	enum tc_listener which = l->udp ? (v6 ? TC_UDP6 : TC_UDP4) : (v6 ? TC_TCP6 : TC_TCP4);
	uint32_t mark = tc_socket_mark(f->tc);
	int fd = open_bound(&l->at, l->udp, e), ret = 0;

	if (fd < 0)
		return fd;
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0)
		ret = -errno;
	if (ret == 0 && l->udp)
		ret = prepare_udp(fd, v6);
	if (ret == 0)
		ret = socket_local(fd, &l->at);
	if (ret < 0)
		err_set(e, ret, "a socket for forwarded traffic cannot be prepared: %s", strerror(-ret));
	else
		ret = tc_set_listener(f->tc, set->slot - 1, set->workers, which, fd, e);
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

int forward_listen(struct forward *f, struct forward_set *set, const struct proxy_mode *mode,
		   struct worker_listener *out, struct err *e)
{
	const struct addr loopback[] = { addr_v4(INADDR_LOOPBACK, 0), { .family = 6, .ip = { [15] = 1 } } };
	int count = 0;

	for (uint32_t which = 0; which < TC_LISTENERS; which++) {
		struct worker_listener *l = &out[count];
		bool v6 = which == TC_TCP6 || which == TC_UDP6, udp = which == TC_UDP4 || which == TC_UDP6;

		if ((v6 && !tc_has_v6(f->tc)) || (udp && !f->udp))
			continue;
		*l = (struct worker_listener){ .mode = mode, .udp = udp, .at = loopback[v6] };
		l->fd = open_listener(f, set, l, e);
		if (l->fd < 0) {
			while (count)
				close(out[--count].fd);
			return e->code;
		}
		count++;
	}
	set->workers++;
	return count;
}

int forward_start(struct forward *f, struct forward_set *set, struct err *e)
{
	int ret = tc_start(f->tc, set->slot - 1, set->workers, e);

	if (ret < 0)
		*set = (struct forward_set){ 0 };
	return ret;
}

void forward_stop(struct forward *f, struct forward_set *set)
{
	if (set->slot)
		tc_stop(f->tc, set->slot - 1);
	*set = (struct forward_set){ 0 };
}

void forward_stop_all(struct forward *f)
{
	if (f->tc)
		tc_stop_all(f->tc);
}

void forward_lease(struct forward *f, uint64_t until_ns)
{
	struct tc *tc = __atomic_load_n(&f->tc, __ATOMIC_ACQUIRE);

	if (tc)
		tc_lease(tc, until_ns);
}

int forward_fd(const struct forward *f)
{
	return f->poll_fd;
}

void forward_poll(struct forward *f)
{
	if (f->tc)
		tc_poll(f->tc);
}
