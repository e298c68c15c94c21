/* SPDX-License-Identifier: MIT */
/* Packets: a request is its words, each with its NUL; an answer is "+" and text, or "-" and a sentence. */
#include "app/control.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"

#define NAME "mitm-bpf/"
#define CLIENTS_MAX 16
#define PACKET_MAX 65536
#define WORDS_MAX 256

struct control {
	int epoll_fd, listen_fd;
	int clients[CLIENTS_MAX];        /* accepted, not yet heard; -1: free */
	uint32_t next;                   /* whom a further one takes the place of */
	control_fn serve;
	void *owner;
	char packet[PACKET_MAX + 1];
};

static socklen_t address(struct sockaddr_un *at, long pid)
{
	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(at->sun_path + 1, sizeof(at->sun_path) - 1, NAME "%ld", pid);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(at->sun_path + 1));
}

static bool peer_is_trusted(int fd, pid_t *pid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	*pid = peer.pid;
	return peer.uid == 0 || peer.uid == geteuid();
}

/* --- the side that is asked ------------------------------------------------------------------------------------- */

static int watch(struct control *c, int fd)
{
	return epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = EPOLLIN, .data.fd = fd });
}

int control_open(struct control **out, control_fn serve, void *owner, struct err *e)
{
	struct control *c = mem_zalloc(sizeof(*c));
	struct sockaddr_un at;
	socklen_t len = address(&at, (long)getpid());

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->serve = serve;
	c->owner = owner;
	for (int i = 0; i < CLIENTS_MAX; i++)
		c->clients[i] = -1;
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	c->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->epoll_fd < 0 || c->listen_fd < 0 || bind(c->listen_fd, (struct sockaddr *)&at, len) < 0 ||
	    listen(c->listen_fd, CLIENTS_MAX) < 0 || watch(c, c->listen_fd) < 0) {
		int ret = err_set(e, -errno, "mitm-bpf set will not reach this program: %m");

		control_close(c);
		return ret;
	}
	*out = c;
	return 0;
}

static void forget(int *client)
{
	if (*client >= 0)
		close(*client);
	*client = -1;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	for (int i = 0; i < CLIENTS_MAX; i++)
		forget(&c->clients[i]);
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
	mem_free(c);
}

int control_fd(const struct control *c)
{
	return c->epoll_fd;
}

/* Who connects and says nothing makes room for those who come later. */
static void take_client(struct control *c)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	pid_t pid;

	if (fd < 0)
		return;
	if (!peer_is_trusted(fd, &pid) || watch(c, fd) < 0) {
		close(fd);
		return;
	}
	forget(&c->clients[c->next]);
	c->clients[c->next] = fd;
	c->next = (c->next + 1) % CLIENTS_MAX;
}

/* What is cut off would mean something else: len is what was sent. */
static int serve(struct control *c, size_t len, struct strbuf *reply, struct err *e)
{
	const char *words[WORDS_MAX];
	size_t count = 0, at = 0;
	int ret;

	if (len > PACKET_MAX)
		return err_set(e, -E2BIG, "The request is longer than %u bytes.", PACKET_MAX);
	c->packet[len] = 0;
	for (; at < len && count < WORDS_MAX; at += strlen(c->packet + at) + 1)
		words[count++] = c->packet + at;
	if (at < len)
		return err_set(e, -E2BIG, "The request has more than %u words.", WORDS_MAX);
	if (!count)
		return err_set(e, -EINVAL, "an empty request");
	ret = c->serve(c->owner, words, count, reply, e);
	if (ret == 0 && (reply->failed || reply->len >= PACKET_MAX))
		ret = err_set(e, -E2BIG, "The answer is longer than %u bytes: ask for less at a time.", PACKET_MAX);
	return ret;
}

static void answer(struct control *c, int fd, size_t len)
{
	struct strbuf reply = { 0 }, packet = { 0 };
	struct err e = { 0 };

	if (serve(c, len, &reply, &e) < 0)
		strbuf_addf(&packet, "-%s", e.text);
	else
		strbuf_addf(&packet, "+%.*s", (int)reply.len, reply.ptr ? reply.ptr : "");
	if (!packet.failed)
		(void)!send(fd, packet.ptr, packet.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	strbuf_fini(&packet);
	strbuf_fini(&reply);
}

/* Who was told of before it was closed is not there any more, and its number may be something else's by now. */
static int *find_client(struct control *c, int fd)
{
	for (int i = 0; i < CLIENTS_MAX; i++)
		if (c->clients[i] == fd)
			return &c->clients[i];
	return NULL;
}

static void hear(struct control *c, int fd)
{
	int *client = find_client(c, fd);
	ssize_t len = client ? recv(fd, c->packet, PACKET_MAX, MSG_DONTWAIT | MSG_TRUNC) : -1;

	if (!client || (len < 0 && errno == EAGAIN))
		return;
	if (len > 0)
		answer(c, fd, (size_t)len);
	forget(client);
}

void control_poll(struct control *c)
{
	struct epoll_event events[CLIENTS_MAX];
	int count = epoll_wait(c->epoll_fd, events, CLIENTS_MAX, 0);

	for (int i = 0; i < count; i++) {
		if (events[i].data.fd == c->listen_fd)
			take_client(c);
		else
			hear(c, events[i].data.fd);
	}
}

/* --- the side that asks ----------------------------------------------------------------------------------------- */

/* Everybody can call a socket so, and none of a user's may stand in root's way. */
static bool is_trusted(long pid)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un at;
	socklen_t len = address(&at, pid);
	pid_t peer;
	bool is = fd >= 0 && connect(fd, (struct sockaddr *)&at, len) == 0 && peer_is_trusted(fd, &peer);

	if (fd >= 0)
		close(fd);
	return is;
}

/* The kernel's list of Unix sockets has every listening one by name. Returns how many run; *pid: one of them. */
static int find_running(long *pid)
{
	long candidate;
	FILE *list = fopen("/proc/net/unix", "re");
	char line[512];
	int found = 0;

	while (list && fgets(line, sizeof(line), list)) {
		const char *at = strstr(line, " @" NAME);
		/* Num RefCount Protocol Flags ...: __SO_ACCEPTCON marks the listening ones */
		unsigned int flags = 0;

		if (!at || sscanf(line, "%*s %*s %*s %x", &flags) != 1 || !(flags & (1u << 16)))
			continue;
		candidate = strtol(at + strlen(" @" NAME), NULL, 10);
		if (!is_trusted(candidate))
			continue;
		*pid = candidate;
		found++;
	}
	if (list)
		fclose(list);
	return found;
}

static int reach(long pid, int fd, int seconds, struct err *e)
{
	const struct timeval limit = { .tv_sec = seconds };
	struct sockaddr_un at;
	socklen_t len = address(&at, pid);
	pid_t peer = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&at, len) < 0)
		return err_set(e, -errno, "No mitm-bpf with the process id %ld can be reached: %m", pid);
	if (!peer_is_trusted(fd, &peer))
		return err_set(e, -EPERM, "The mitm-bpf with the process id %ld is somebody else's.", pid);
	return 0;
}

static int talk(int fd, const struct strbuf *packet, struct strbuf *reply, struct err *e)
{
	char text[PACKET_MAX];
	ssize_t len;

	if (send(fd, packet->ptr, packet->len, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		return err_set(e, -errno, "cannot ask the mitm-bpf that runs: %m");
	len = recv(fd, text, sizeof(text), 0);
	if (len <= 0)
		return err_set(e, len < 0 ? -errno : -EPIPE, "The mitm-bpf that runs did not answer; is it this "
			       "user's, or are you not root?");
	if (text[0] == '-')
		return err_set(e, -EINVAL, "%.*s", (int)len - 1, text + 1);
	strbuf_add(reply, text + 1, (size_t)len - 1);
	return reply->failed ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int control_ask(long pid, const char *const *words, size_t count, int seconds, struct strbuf *reply, struct err *e)
{
	int running = pid ? 1 : find_running(&pid), fd, ret;
	struct strbuf packet = { 0 };

	if (running == 0)
		return err_set(e, -ESRCH, "No mitm-bpf runs here.");
	if (running > 1)
		return err_set(e, -EINVAL, "%d mitm-bpf run here: say which with --pid PID.", running);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "no socket: %m");
	for (size_t i = 0; i < count; i++)
		strbuf_add(&packet, words[i], strlen(words[i]) + 1);
	ret = packet.failed ? err_set(e, -ENOMEM, "out of memory") : reach(pid, fd, seconds, e);
	if (ret == 0)
		ret = talk(fd, &packet, reply, e);
	strbuf_fini(&packet);
	close(fd);
	return ret;
}
