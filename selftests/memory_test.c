/* SPDX-License-Identifier: MIT */
/*
 * Memory is bounded, whatever is slow: every protocol, plain and in TLS, towards a slow client and a slow server. The
 * program's memory grows by less than GROWTH_MAX over all connections together, and the fast side really stands still
 * while the slow one reads nothing. Bodies are captured all the while, as they are for anybody; some cells save them.
 *
 * MEMORY_TEST_MIB: how much goes through each cell (256; 1024 is the full test). MEMORY_TEST_ONLY: a part of the names.
 */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bulk.h"

#define CONNECTIONS 4
#define GROWTH_MAX  ((uint64_t)32 << 20)
/* Kernel buffers on the way: what loopback sockets may grow to on both sides of the proxy, beside what it holds. */
#define AHEAD_MAX   ((uint64_t)16 << 20)
#define TOGETHER    2

struct cell {
	enum protocol protocol;
	bool tls, upload, save;
};

static const char *const protocol_names[] = { "HTTP/1", "HTTP/2", "WebSocket", "TCP" };
static char folder[64];
static uint64_t cell_bytes = (uint64_t)256 << 20;

struct proxy {
	pid_t pid;
	uint16_t port, origin_port;
	int listener;
	char file[128], log[128];
	SSL_CTX *client_ctx, *server_ctx;
};

/* --- the proxy ------------------------------------------------------------------------------------------------- */

static int listen_on(uint16_t *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	small_buffers(fd);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) < 0) {
		close(fd);
		return -1;
	}
	*port = ntohs(at.sin_port);
	return fd;
}

static bool reachable(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool well = connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;

	close(fd);
	return well;
}

static void exec_proxy(const struct proxy *p, const struct cell *c)
{
	const char *path = getenv("MITM_BPF"), *scheme = c->protocol == TCP ? c->tls ? "tls" : "tcp"
									   : c->tls ? "https" : "http";
	char mode[80], port[8];
	const char *argv[] = { path ? path : "build/mitm-bpf", "-q", "--mode", mode, "-p", port, "--workers", "2",
			       "--set", "ssl_insecure=true", "--set", "connection_strategy=lazy",
			       /* messages cost a little more than their bytes */
			       "--set", c->save ? "body_capture_max=512m" : "body_capture_max=256m",
			       c->save ? "-w" : NULL, p->file, NULL };
	FILE *log = freopen(p->log, "w", stderr);

	snprintf(mode, sizeof(mode), "reverse:%s://127.0.0.1:%u", scheme, p->origin_port);
	snprintf(port, sizeof(port), "%u", p->port);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv("HOME", folder, 1);
	if (log)
		dup2(fileno(log), STDOUT_FILENO);
	execv(argv[0], (char *const *)argv);
	_exit(127);
}

static bool proxy_up(struct proxy *p, const struct cell *c)
{
	int probe = listen_on(&p->port);

	close(probe);
	p->listener = listen_on(&p->origin_port);
	snprintf(p->file, sizeof(p->file), "%s/%u.mitm", folder, p->port);
	snprintf(p->log, sizeof(p->log), "%s/%u.log", folder, p->port);
	p->pid = fork();
	if (p->pid == 0)
		exec_proxy(p, c);
	for (int i = 0; i < 1000 && !reachable(p->port); i++)
		bulk_sleep_ms(10);
	return p->pid > 0 && reachable(p->port);
}

static int proxy_down(struct proxy *p)
{
	int status = 0;

	kill(p->pid, SIGTERM);
	waitpid(p->pid, &status, 0);
	close(p->listener);
	return status;
}

/* A line of /proc/PID/status, in bytes. */
static uint64_t proxy_memory(const struct proxy *p, const char *what)
{
	char path[64], line[256];
	unsigned long long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)p->pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, what, strlen(what)) == 0)
			sscanf(line + strlen(what), ": %llu", &kib);
	if (f)
		fclose(f);
	return (uint64_t)kib << 10;
}

/* From here on VmHWM is the peak from here on. */
static void forget_peak(const struct proxy *p)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", (int)p->pid);
	f = fopen(path, "w");
	if (!f)
		return;
	fputs("5", f);
	fclose(f);
}

/* --- TLS ------------------------------------------------------------------------------------------------------- */

static int choose_h2(SSL *ssl __unused, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		     unsigned in_len, void *arg __unused)
{
	static const unsigned char h2[] = "\x02h2";

	if (SSL_select_next_proto((unsigned char **)out, out_len, h2, 3, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

static bool make_tls(struct proxy *p, const struct cell *c)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name;
	bool well;

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_set_pubkey(cert, key);
	name = X509_get_subject_name(cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bulk.test", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	p->client_ctx = SSL_CTX_new(TLS_client_method());
	p->server_ctx = SSL_CTX_new(TLS_server_method());
	well = X509_sign(cert, key, EVP_sha256()) && SSL_CTX_use_certificate(p->server_ctx, cert) == 1 &&
	       SSL_CTX_use_PrivateKey(p->server_ctx, key) == 1;
	if (c->protocol == H2)
		SSL_CTX_set_alpn_select_cb(p->server_ctx, choose_h2, NULL);
	X509_free(cert);
	EVP_PKEY_free(key);
	return well;
}

/* --- a cell ---------------------------------------------------------------------------------------------------- */

static void *transfer(void *arg)
{
	bulk_transfer(arg);
	return NULL;
}

/* Several at once; the first failure, or NULL. */
static const char *transfers(const struct proxy *p, const struct cell *c, uint64_t bytes, bool hasty,
			     struct bulk b[CONNECTIONS])
{
	const char *why = NULL;
	pthread_t threads[CONNECTIONS];

	for (int i = 0; i < CONNECTIONS; i++) {
		b[i] = (struct bulk){
			.protocol = c->protocol, .tls = c->tls, .upload = c->upload, .hasty = hasty,
			.bytes = bytes / CONNECTIONS, .proxy_port = p->port, .listener = p->listener,
			.client_ctx = p->client_ctx, .server_ctx = p->server_ctx,
		};
		pthread_create(&threads[i], NULL, transfer, &b[i]);
		/* its own server's end takes it, not the next one's */
		while (!b[i].accepted && !b[i].failed)
			bulk_sleep_ms(1);
	}
	for (int i = 0; i < CONNECTIONS; i++) {
		pthread_join(threads[i], NULL);
		if (b[i].failed && !why)
			why = b[i].why;
	}
	return why;
}

struct result {
	char why[200];                   /* empty: all is well */
	uint64_t growth, ahead;
	double stood_s, seconds;
	long long saved;
};

static void wrong(struct result *r, const char *fmt, ...) __printf(2, 3);
static void wrong(struct result *r, const char *fmt, ...)
{
	va_list args;

	if (r->why[0])
		return;
	va_start(args, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, args);
	va_end(args);
}

static void measure(struct proxy *p, const struct cell *c, struct result *r)
{
	static struct bulk b[CONNECTIONS];
	const char *why = transfers(p, c, (uint64_t)4 << 20, true, b);
	uint64_t before = proxy_memory(p, "VmRSS");
	double begin = bulk_now();

	if (why)
		wrong(r, "warming up: %s", why);
	forget_peak(p);
	if (!why)
		why = transfers(p, c, cell_bytes, false, b);
	if (why)
		wrong(r, "%s", why);
	r->seconds = bulk_now() - begin;
	r->growth = proxy_memory(p, "VmHWM") - MIN(before, proxy_memory(p, "VmHWM"));
	r->stood_s = 99;
	for (int i = 0; i < CONNECTIONS; i++) {
		r->ahead = MAX(r->ahead, b[i].ahead_max);
		r->stood_s = b[i].stood_s < r->stood_s ? b[i].stood_s : r->stood_s;
	}
	if (r->growth >= GROWTH_MAX)
		wrong(r, "memory grew by %.1f MiB", (double)r->growth / (1 << 20));
	if (r->stood_s < 0.4)
		wrong(r, "the fast side never stood still");
	if (r->ahead >= AHEAD_MAX)
		wrong(r, "the fast side was %.1f MiB ahead", (double)r->ahead / (1 << 20));
	if (r->ahead == 0)
		wrong(r, "the fast side sent nothing ahead");
}

static void run_cell(const struct cell *c, struct result *r)
{
	struct proxy p = { 0 };
	struct stat st;

	if (!make_tls(&p, c) || !proxy_up(&p, c))
		wrong(r, "mitm-bpf does not start; see %s", p.log);
	else
		measure(&p, c, r);
	if (proxy_down(&p) != 0)
		wrong(r, "mitm-bpf ended with a failure; see %s", p.log);
	/* warm-up and all; the heads are little beside it */
	if (c->save && (stat(p.file, &st) < 0 || (uint64_t)st.st_size < cell_bytes))
		wrong(r, "not everything was saved");
	r->saved = c->save ? (long long)st.st_size : 0;
	unlink(p.file);
	if (!r->why[0])
		unlink(p.log);
	SSL_CTX_free(p.client_ctx);
	SSL_CTX_free(p.server_ctx);
}

/* --- all ------------------------------------------------------------------------------------------------------- */

static void cell_name(const struct cell *c, char *out, size_t size)
{
	snprintf(out, size, "%s, slow %s, %s%s", protocol_names[c->protocol], c->upload ? "server" : "client",
		 c->tls ? "TLS" : "plain", c->save ? ", saved" : "");
}

/* One line, written at once: two cells run at a time. */
static int report(int number, const struct cell *c)
{
	struct result r = { 0 };
	char name[100], text[600];
	int len;

	cell_name(c, name, sizeof(name));
	run_cell(c, &r);
	len = snprintf(text, sizeof(text), "%sok %d - %s: memory stays bounded\n# %s: grew by %.1f MiB, the fast side "
		       "%.1f MiB ahead, %.1f s%s%s\n", r.why[0] ? "not " : "", number, name, name,
		       (double)r.growth / (1 << 20), (double)r.ahead / (1 << 20), r.seconds,
		       r.why[0] ? "\n# " : "", r.why);
	return write(STDOUT_FILENO, text, (size_t)len) == len && !r.why[0] ? 0 : 1;
}

static int wait_one(void)
{
	int status;

	return wait(&status) > 0 && status == 0 ? 0 : 1;
}

static int run_all(const struct cell *cells, int count)
{
	int failed = 0, running = 0;

	for (int i = 0; i < count; i++) {
		pid_t pid;

		if (running == TOGETHER) {
			failed |= wait_one();
			running--;
		}
		pid = fork();
		if (pid == 0)
			_exit(report(i + 1, &cells[i]));
		running += pid > 0;
		failed |= pid < 0;
	}
	while (running--)
		failed |= wait_one();
	return failed;
}

static int choose(struct cell *cells)
{
	const char *only = getenv("MEMORY_TEST_ONLY");
	char name[100];
	int count = 0;

	for (int i = 0; i < 20; i++) {
		/* the last four save what goes through */
		struct cell c = { .protocol = (enum protocol)(i % 4), .tls = i < 16 && i & 8, .upload = i < 16 && i & 4,
				  .save = i >= 16 };

		cell_name(&c, name, sizeof(name));
		if (!only || strstr(name, only))
			cells[count++] = c;
	}
	return count;
}

static bool set_buffers(const char *path, const char *values)
{
	FILE *f = fopen(path, "we");
	bool well = f && fputs(values, f) >= 0;

	return f && fclose(f) == 0 && well;
}

/*
 * The kernel's buffers are on the way, too, and on some machines a socket's may grow to more than AHEAD_MAX: in a
 * network of our own they are as Linux has them by default, and what is measured is the program.
 */
static bool own_network(void)
{
	return unshare(CLONE_NEWNET) == 0 && system("ip link set lo up") == 0 &&
	       set_buffers("/proc/sys/net/ipv4/tcp_rmem", "4096 131072 6291456") &&
	       set_buffers("/proc/sys/net/ipv4/tcp_wmem", "4096 16384 4194304");
}

int main(void)
{
	const char *mib = getenv("MEMORY_TEST_MIB");
	struct cell cells[20];
	int count = choose(cells), failed;

	signal(SIGPIPE, SIG_IGN);
	if (!own_network()) {
		printf("1..0 # SKIP no network namespace of its own; run as root\n");
		return 77;
	}
	if (mib)
		cell_bytes = strtoull(mib, NULL, 10) << 20;
	for (size_t i = 0; i < sizeof(bulk_pattern); i++)
		bulk_pattern[i] = (uint8_t)(i % BULK_PERIOD * 2654435761u >> 13);
	bulk_pattern[0] = bulk_pattern[BULK_PERIOD] = 1;
	strcpy(folder, "/tmp/mitm-bpf-memory-XXXXXX");
	if (!mkdtemp(folder))
		return 1;
	printf("1..%d\n", count);
	fflush(stdout);
	failed = run_all(cells, count);
	if (!failed) {
		char command[128];

		snprintf(command, sizeof(command), "rm -rf %s", folder);
		failed = system(command) != 0;
	}
	return failed;
}
