/* SPDX-License-Identifier: MIT */
/* Every way to connect a TCP socket: is it taken, is the origin right, does the application notice? */
#include "steer_world.h"

struct dial {
	const char *name, *ip;
	const char *want;            /* beginning of the line */
	const char *bind_ip;
	bool nonblock, to_device, unspec_first, transparent, fast_open, fast_send;
	int protocol;                /* 0 = TCP */
	int error;                   /* that connect has to end with */
	const char *peer, *self;     /* what getpeername and getsockname have to say; NULL: not asked */
};

static char client_line[LINE_MAX_LEN];

static void numeric(const struct sockaddr_storage *a, char out[INET6_ADDRSTRLEN])
{
	if (a->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, out, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr, out, INET6_ADDRSTRLEN);
}

static bool names_are(int fd, const struct dial *d)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	char text[INET6_ADDRSTRLEN];

	if (d->peer) {
		if (getpeername(fd, (struct sockaddr *)&a, &len) < 0)
			return false;
		numeric(&a, text);
		if (strcmp(text, d->peer) != 0 || ntohs(((struct sockaddr_in *)&a)->sin_port) != ORIGIN_PORT) {
			printf("# getpeername says %s\n", text);
			return false;
		}
	}
	if (!d->self)
		return true;
	len = sizeof(a);
	getsockname(fd, (struct sockaddr *)&a, &len);
	numeric(&a, text);
	if (strcmp(text, d->self) != 0)
		printf("# getsockname says %s\n", text);
	return strcmp(text, d->self) == 0;
}

/* Who asked for a device: the connection to the server is to go there, too. */
static bool device_is(const struct dial *d)
{
	char text[32];

	snprintf(text, sizeof(text), " if=%u", d->to_device ? if_nametoindex("mbA") : 0);
	if (!starts(d->want, "steered ") || strstr(client_line, text))
		return true;
	printf("# %s: \"%s\" has not%s\n", d->name, client_line, text);
	return false;
}

static bool dial(void *arg)
{
	const struct dial *d = arg;
	struct sockaddr_storage to, from;
	socklen_t len = address_of(&to, d->ip, ORIGIN_PORT), from_len;
	int fd = socket(to.ss_family, SOCK_STREAM | (d->nonblock ? SOCK_NONBLOCK : 0), d->protocol);
	int ret, one = 1;

	if (d->transparent)
		setsockopt(fd, SOL_IP, IP_TRANSPARENT, &one, sizeof(one));
	if (d->fast_open)
		setsockopt(fd, SOL_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one));
	if (d->bind_ip) {
		from_len = address_of(&from, d->bind_ip, 0);
		if (bind(fd, (struct sockaddr *)&from, from_len) < 0)
			return false;
	}
	if (d->to_device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "mbA", 4) < 0)
		return false;
	if (d->unspec_first) {
		struct sockaddr none = { .sa_family = AF_UNSPEC };
		struct sockaddr_storage other;
		socklen_t other_len = address_of(&other, d->ip, ORIGIN_PORT + 3);

		if (connect(fd, (struct sockaddr *)&other, other_len) < 0 || connect(fd, &none, sizeof(none)) < 0)
			return false;
	}
	/* It connects. Data that nobody reads would reset the connection at its end. */
	if (d->fast_send && sendto(fd, "", 0, MSG_FASTOPEN, (struct sockaddr *)&to, len) != 0) {
		printf("# %s: %m\n", d->name);
		return false;
	}
	ret = d->fast_send ? read_line(fd, client_line) : finish(fd, (struct sockaddr *)&to, len, client_line);
	if (ret == -d->error && ret < 0)
		return true;
	if (ret < 0 || !starts(client_line, d->want)) {
		printf("# %s: %s, \"%s\"\n", d->name, strerror(-ret), client_line);
		return false;
	}
	if (!device_is(d) || !names_are(fd, d))
		return false;
	close(fd);
	return true;
}

#define STEERED4 "steered " ORIGIN4 " 8080 "
#define STEERED6 "steered " ORIGIN6 " 8080 "
#define MAPPED "::ffff:"

/* Steered first; then, disconnected, to a loopback address, where nothing of the first connection may be told. */
static bool forgets(void *arg)
{
	struct sockaddr_storage first, then, peer;
	socklen_t first_len = address_of(&first, ORIGIN4, ORIGIN_PORT), peer_len = sizeof(peer);
	socklen_t then_len = address_of(&then, "127.0.0.1", LOOPBACK_PORT);
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)arg;
	return connect(fd, (struct sockaddr *)&first, first_len) == 0 && connect(fd, &none, sizeof(none)) == 0 &&
	       finish(fd, (struct sockaddr *)&then, then_len, client_line) == 0 && starts(client_line, "direct") &&
	       getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 && memcmp(&peer, &then, then_len) == 0;
}

/* What is selected and still goes its own way, because it could not work, or would work where it should not. */
static void test_unfit(struct world *w)
{
	static struct dial foreign = {
		.name = "a foreign source", .ip = ORIGIN4, .want = "direct 10.77.0.77", .bind_ip = "10.77.0.77",
		.transparent = true,
	};
	static struct dial inside = {
		.name = "a loopback source", .ip = ORIGIN4, .want = "", .bind_ip = "127.0.0.1", .error = EINVAL,
	};

	ok(as_client(w, "mbclient", forgets, NULL), "a socket that is connected again forgets the first time");
	run("nsenter --net=/proc/%d/ns/net ip route add 10.77.0.77 via " CLIENT4, w->origin);
	run("ip rule add to 10.77.0.77 iif mbA lookup 77 && ip route add local 10.77.0.77 dev lo table 77");
	ok(as_client(w, "mbclient", dial, &foreign), "another machine's address (IP_TRANSPARENT): left alone");
	ok(atoi(proxy_say(w, "stat direct-foreign-source")) == 1, "and counted");
	run("ip route del local 10.77.0.77 dev lo table 77 && ip rule del to 10.77.0.77 iif mbA lookup 77");
	ok(as_client(w, "mbclient", dial, &inside), "from a loopback address the world stays out of reach");
}

static void test_protocols(struct world *w)
{
	static struct dial dials[] = {
		{ .name = "TCP_FASTOPEN_CONNECT, IPv4", .ip = ORIGIN4, .want = STEERED4, .fast_open = true,
		  .peer = ORIGIN4, .self = CLIENT4 },
		{ .name = "TCP_FASTOPEN_CONNECT, IPv6", .ip = ORIGIN6, .want = STEERED6, .fast_open = true,
		  .peer = ORIGIN6, .self = CLIENT6 },
		{ .name = "sendto(MSG_FASTOPEN), IPv4", .ip = ORIGIN4, .want = STEERED4, .fast_send = true,
		  .peer = ORIGIN4, .self = CLIENT4 },
		{ .name = "sendto(MSG_FASTOPEN), IPv6", .ip = ORIGIN6, .want = STEERED6, .fast_send = true,
		  .peer = ORIGIN6, .self = CLIENT6 },
		{ .name = "multipath TCP, IPv4", .ip = ORIGIN4, .want = STEERED4, .protocol = IPPROTO_MPTCP },
		{ .name = "multipath TCP, IPv6", .ip = ORIGIN6, .want = STEERED6, .protocol = IPPROTO_MPTCP },
	};
	int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	bool multipath = fd >= 0;

	if (fd >= 0)
		close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(dials); i++) {
		if (dials[i].protocol && !multipath)
			ok(true, "%s # SKIP the kernel has none", dials[i].name);
		else
			ok(as_client(w, "mbclient", dial, &dials[i]), "%s", dials[i].name);
	}
}

static void test_dials(struct world *w)
{
	static struct dial dials[] = {
		{ .name = "IPv4", .ip = ORIGIN4, .want = STEERED4, .peer = ORIGIN4, .self = CLIENT4 },
		{ .name = "IPv6", .ip = ORIGIN6, .want = STEERED6, .peer = ORIGIN6, .self = CLIENT6 },
		{ .name = "IPv4-mapped", .ip = MAPPED ORIGIN4, .want = STEERED4, .peer = MAPPED ORIGIN4,
		  .self = MAPPED CLIENT4 },
		{ .name = "non-blocking IPv4", .ip = ORIGIN4, .want = STEERED4, .nonblock = true, .peer = ORIGIN4 },
		{ .name = "non-blocking IPv6", .ip = ORIGIN6, .want = STEERED6, .nonblock = true, .peer = ORIGIN6 },
		{ .name = "non-blocking IPv4-mapped", .ip = MAPPED ORIGIN4, .want = STEERED4, .nonblock = true,
		  .peer = MAPPED ORIGIN4 },
		{ .name = "bound source IPv4", .ip = ORIGIN4, .want = STEERED4, .bind_ip = CLIENT4, .peer = ORIGIN4,
		  .self = CLIENT4 },
		{ .name = "bound source IPv6", .ip = ORIGIN6, .want = STEERED6, .bind_ip = CLIENT6, .peer = ORIGIN6,
		  .self = CLIENT6 },
		{ .name = "SO_BINDTODEVICE IPv4", .ip = ORIGIN4, .want = STEERED4, .to_device = true, .peer = ORIGIN4 },
		{ .name = "SO_BINDTODEVICE IPv6", .ip = ORIGIN6, .want = STEERED6, .to_device = true, .peer = ORIGIN6 },
		{ .name = "AF_UNSPEC, then elsewhere, IPv4", .ip = ORIGIN4, .want = STEERED4, .unspec_first = true,
		  .peer = ORIGIN4 },
		{ .name = "AF_UNSPEC, then elsewhere, IPv6", .ip = ORIGIN6, .want = STEERED6, .unspec_first = true,
		  .peer = ORIGIN6 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(dials); i++)
		ok(as_client(w, "mbclient", dial, &dials[i]), "%s is taken, with its origin and its names",
		   dials[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(dials); i++) {
		struct dial direct = dials[i];

		direct.want = "direct ";
		ok(as_client(w, "bystander", dial, &direct), "%s of a process that is not selected goes direct",
		   dials[i].name);
	}
}

int main(void)
{
	struct world w;

	world_start(&w);
	proxy_start(&w, false);
	ok(strcmp(proxy_say(&w, "spec mbclient"), "ok") == 0, "a spec is accepted");
	test_dials(&w);
	test_unfit(&w);
	test_protocols(&w);
	world_stop(&w);
	return tap_end();
}
