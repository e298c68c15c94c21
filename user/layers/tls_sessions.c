/* SPDX-License-Identifier: MIT */
/* Of each key a few sessions, the newest last. */
#include "layers/tls_sessions.h"

#include <openssl/x509.h>

#include "base/lru.h"
#include "base/mem.h"

#define EACH_MAX 16u                 /* sessions of one key */

struct kept {
	SSL_SESSION *session;
	int64_t expires_s;
};

struct entry {
	struct lru_entry base;
	struct kept kept[EACH_MAX];
	uint32_t count;
	char key[];
};

struct tls_sessions {
	struct lru table;
	uint32_t count, max;             /* sessions */
};

struct tls_sessions *tls_sessions_new(uint32_t sessions_max)
{
	struct tls_sessions *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->max = sessions_max;
	if (lru_init(&s->table, sessions_max / 2) == 0)
		return s;
	mem_free(s);
	return NULL;
}

static struct entry *find(const struct tls_sessions *s, struct str key)
{
	struct lru_entry *e = lru_find(&s->table, key);

	return e ? container_of(e, struct entry, base) : NULL;
}

static void drop(struct tls_sessions *s, struct entry *e)
{
	lru_del(&s->table, &e->base);
	s->count -= e->count;
	while (e->count)
		SSL_SESSION_free(e->kept[--e->count].session);
	mem_free(e);
}

static void drop_oldest(struct tls_sessions *s)
{
	drop(s, container_of(lru_oldest(&s->table), struct entry, base));
}

void tls_sessions_clear(struct tls_sessions *s)
{
	while (s->table.count)
		drop_oldest(s);
}

void tls_sessions_free(struct tls_sessions *s)
{
	if (!s)
		return;
	tls_sessions_clear(s);
	lru_fini(&s->table);
	mem_free(s);
}

static bool is_single(const SSL_SESSION *session)
{
	return SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION;
}

SSL_SESSION *tls_sessions_take(struct tls_sessions *s, struct str key, int64_t now_s)
{
	struct entry *e = find(s, key);

	while (e && e->count) {
		struct kept *newest = &e->kept[e->count - 1];
		SSL_SESSION *session = newest->session;
		bool good = newest->expires_s > now_s && SSL_SESSION_is_resumable(session);

		if (good && (e->count == 1 || !is_single(session))) {
			lru_touch(&s->table, &e->base);
			SSL_SESSION_up_ref(session);
			return session;
		}
		e->count--;
		s->count--;
		if (good)
			return session;
		SSL_SESSION_free(session);
	}
	if (e)
		drop(s, e);
	return NULL;
}

/* A session ends with its ticket, and no later than the certificate that vouched for it. */
static int64_t expiry(const SSL_SESSION *session)
{
	int64_t at = (int64_t)SSL_SESSION_get_time(session) + (int64_t)SSL_SESSION_get_timeout(session);
	X509 *peer = SSL_SESSION_get0_peer((SSL_SESSION *)session);
	struct tm tm;

	if (peer && ASN1_TIME_to_tm(X509_get0_notAfter(peer), &tm) == 1)
		at = MIN(at, (int64_t)timegm(&tm));
	return at;
}

static struct entry *add(struct tls_sessions *s, struct str key)
{
	struct entry *e = mem_zalloc(sizeof(*e) + key.len);

	if (!e)
		return NULL;
	memcpy(e->key, key.ptr, key.len);
	e->base.key = (struct str){ e->key, key.len };
	lru_add(&s->table, &e->base);
	return e;
}

/* Makes room for one more. */
static void forget_oldest(struct tls_sessions *s, struct entry *e, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		SSL_SESSION_free(e->kept[i].session);
	e->count -= count;
	s->count -= count;
	memmove(e->kept, e->kept + count, e->count * sizeof(e->kept[0]));
}

void tls_sessions_put(struct tls_sessions *s, struct str key, SSL_SESSION *session)
{
	struct entry *e = find(s, key);

	if (!e)
		e = add(s, key);
	if (!e) {
		SSL_SESSION_free(session);
		return;
	}
	lru_touch(&s->table, &e->base);
	if (!is_single(session))
		forget_oldest(s, e, e->count);
	else if (e->count == EACH_MAX)
		forget_oldest(s, e, 1);
	e->kept[e->count++] = (struct kept){ .session = session, .expires_s = expiry(session) };
	s->count++;
	while (s->count > s->max)
		drop_oldest(s);
}
