/* SPDX-License-Identifier: MIT */
/* A hash table with a list through it in order of use; of each key a few sessions, the newest last. */
#include "layers/tls_sessions.h"

#include <openssl/x509.h>

#include "base/list.h"
#include "base/mem.h"

#define BUCKETS  1024u
#define EACH_MAX 16u                 /* sessions of one key */

struct kept {
	SSL_SESSION *session;
	int64_t expires_s;
};

struct entry {
	struct list used;                /* most recent last */
	struct entry *next;              /* same bucket */
	struct kept kept[EACH_MAX];
	uint32_t count;
	uint32_t hash;
	uint32_t len;
	char key[];
};

struct tls_sessions {
	struct list used;
	uint32_t count, max;             /* sessions */
	struct entry *buckets[BUCKETS];
};

/* FNV-1a. Clients choose what keys hold; one that fills a bucket costs a look-up a few thousand steps at most. */
static uint32_t hash(struct str key)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < key.len; i++)
		h = (h ^ (uint8_t)key.ptr[i]) * 16777619u;
	return h;
}

struct tls_sessions *tls_sessions_new(uint32_t sessions_max)
{
	struct tls_sessions *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->max = sessions_max;
	list_init(&s->used);
	return s;
}

static struct entry **place(struct tls_sessions *s, struct str key, uint32_t h)
{
	struct entry **at = &s->buckets[h % BUCKETS];

	while (*at && ((*at)->hash != h || !str_eq((struct str){ (*at)->key, (*at)->len }, key)))
		at = &(*at)->next;
	return at;
}

static void drop(struct tls_sessions *s, struct entry **at)
{
	struct entry *e = *at;

	*at = e->next;
	list_del(&e->used);
	s->count -= e->count;
	while (e->count)
		SSL_SESSION_free(e->kept[--e->count].session);
	mem_free(e);
}

static void drop_oldest(struct tls_sessions *s)
{
	struct entry *e = list_entry(list_first(&s->used), struct entry, used);
	struct entry **at = &s->buckets[e->hash % BUCKETS];

	while (*at != e)
		at = &(*at)->next;
	drop(s, at);
}

void tls_sessions_clear(struct tls_sessions *s)
{
	while (s->count)
		drop_oldest(s);
}

void tls_sessions_free(struct tls_sessions *s)
{
	if (!s)
		return;
	tls_sessions_clear(s);
	mem_free(s);
}

static bool is_single(const SSL_SESSION *session)
{
	return SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION;
}

SSL_SESSION *tls_sessions_take(struct tls_sessions *s, struct str key, int64_t now_s)
{
	struct entry **at = place(s, key, hash(key)), *e = *at;

	while (e && e->count) {
		struct kept *newest = &e->kept[e->count - 1];
		SSL_SESSION *session = newest->session;
		bool good = newest->expires_s > now_s && SSL_SESSION_is_resumable(session);

		if (good && (e->count == 1 || !is_single(session))) {
			list_del(&e->used);
			list_add_tail(&s->used, &e->used);
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
		drop(s, at);
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

static struct entry *entry_new(struct str key, uint32_t h)
{
	struct entry *e = mem_zalloc(sizeof(*e) + key.len);

	if (!e)
		return NULL;
	memcpy(e->key, key.ptr, key.len);
	e->len = (uint32_t)key.len;
	e->hash = h;
	list_init(&e->used);
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
	uint32_t h = hash(key);
	struct entry **at = place(s, key, h);
	struct entry *e = *at;

	if (!e) {
		e = *at = entry_new(key, h);
		if (!e) {
			SSL_SESSION_free(session);
			return;
		}
	}
	list_del(&e->used);
	if (!is_single(session))
		forget_oldest(s, e, e->count);
	else if (e->count == EACH_MAX)
		forget_oldest(s, e, 1);
	e->kept[e->count++] = (struct kept){ .session = session, .expires_s = expiry(session) };
	s->count++;
	list_add_tail(&s->used, &e->used);
	while (s->count > s->max)
		drop_oldest(s);
}
