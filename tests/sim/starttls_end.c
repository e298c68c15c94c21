/* SPDX-License-Identifier: MIT */
/* Turns, written down. A server refuses as the script says of its host: never, the first time, or always. */
#include "starttls_end.h"

#define TURNS_MAX 5
#define SAYS(text_) { text_, sizeof(text_) - 1, true }
#define ASKS(text_) { text_, sizeof(text_) - 1, false }

#define LDAP_ASKS "\x30\x1d\x02\x01\x02\x77\x18\x80\x16" "1.3.6.1.4.1.1466.20037"
#define POSTGRES_TLS "\0\0\0\x08\x04\xd2\x16\x2f"
#define POSTGRES_GSS "\0\0\0\x08\x04\xd2\x16\x30"

struct turn {
	const char *text;                /* NULL: there is no such turn */
	size_t len;
	bool server;
};

static const struct protocol {
	struct turn first[TURNS_MAX];    /* before anybody asks for TLS */
	struct turn vain, no, ask, yes;  /* a question that is refused, and the one that is not */
	bool ahead;                      /* a client may ask before its earlier questions are answered */
} protocols[SCRIPT_STARTTLS] = {
	[STARTTLS_BY_SMTP] = {
		.first = { SAYS("220 o.test ESMTP ready\r\n"), ASKS("EHLO c.test\r\n"),
			   SAYS("250-o.test greets\r\n250-STARTTLS\r\n250 SIZE\r\n") },
		.vain = ASKS("STARTTLS\r\n"), .no = SAYS("454 not now\r\n"),
		.ask = ASKS("starttls\r\n"), .yes = SAYS("220 go ahead\r\n"), .ahead = true,
	},
	[STARTTLS_BY_POP3] = {
		.first = { SAYS("+OK ready\r\n"), ASKS("CAPA\r\n"), SAYS("+OK\r\nSTLS\r\n.\r\n") },
		.vain = ASKS("STLS\r\n"), .no = SAYS("-ERR not now\r\n"),
		.ask = ASKS("STLS\r\n"), .yes = SAYS("+OK go ahead\r\n"),
	},
	[STARTTLS_BY_IMAP] = {
		.first = { SAYS("* OK [CAPABILITY IMAP4rev2 STARTTLS] ready\r\n"), ASKS("a1 CAPABILITY\r\n"),
			   SAYS("* CAPABILITY IMAP4rev2 STARTTLS\r\na1 OK done\r\n") },
		.vain = ASKS("a2 STARTTLS\r\n"), .no = SAYS("* NO really\r\na2 NO not now\r\n"),
		.ask = ASKS("a3 StartTLS\r\n"), .yes = SAYS("* OK wait\r\na3 OK go ahead\r\n"), .ahead = true,
	},
	[STARTTLS_BY_XMPP] = {
		.first = { ASKS("<?xml version='1.0'?><stream:stream to='o.test'>"),
			   SAYS("<?xml version='1.0'?><stream:stream><stream:features><starttls "
				"xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>") },
		.vain = ASKS("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), .no = SAYS("<failure/>"),
		.ask = ASKS("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
		.yes = SAYS("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), .ahead = true,
	},
	[STARTTLS_BY_LDAP] = {
		.first = { ASKS("\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0"),
			   SAYS("\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0") },
		.vain = ASKS(LDAP_ASKS), .no = SAYS("\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x34\x04\0\x04\0"),
		.ask = ASKS(LDAP_ASKS),
		.yes = SAYS("\x30\x84\0\0\0\x10\x02\x01\x02\x78\x84\0\0\0\x07\x0a\x01\0\x04\0\x04\0"),
	},
	[STARTTLS_BY_POSTGRES] = {
		.vain = ASKS(POSTGRES_GSS), .no = SAYS("N"), .ask = ASKS(POSTGRES_TLS), .yes = SAYS("S"),
	},
	[STARTTLS_BY_MYSQL] = {
		.first = { SAYS("\x1a\0\0\0\x0a" "8.0.1\0" "\1\0\0\0" "abcdefgh\0\0\x0a\x08") },
		.ask = ASKS("\x20\0\0\1\x05\x0a\0\0\0\0\0\1\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
	},
};

static const struct turn *turn_of(const struct turn *t)
{
	return t->text ? t : NULL;
}

/* NULL: the n-th and all later ones are none. */
static const struct turn *turn_at(const struct starttls_end *e, uint32_t n)
{
	const struct protocol *p = &protocols[e->kind];
	enum script_refuses refuses = e->script->refuses[e->host];
	uint32_t first = 0;

	while (p->first[first].text)
		first++;
	if (n < first)
		return &p->first[n];
	n -= first;
	if (refuses != REFUSES_NEVER && p->no.text) {
		if (n < 2)
			return n == 0 ? &p->vain : &p->no;
		n -= 2;
	}
	if (refuses == REFUSES_ALWAYS || n > 1)
		return NULL;
	return turn_of(n == 0 ? &p->ask : &p->yes);
}

/* The next turn of one side, at or after n; one past the last one: there is none. */
static uint32_t next_turn(const struct starttls_end *e, uint32_t n, bool server)
{
	const struct turn *t = turn_at(e, n);

	while (t && t->server != server)
		t = turn_at(e, ++n);
	return n;
}

static bool may_speak(const struct starttls_end *e)
{
	if (e->own < e->other)
		return true;
	return e->ahead && protocols[e->kind].ahead && e->script->refuses[e->host] == REFUSES_NEVER && e->other;
}

static bool speak(struct starttls_end *e)
{
	const struct turn *t;

	for (t = turn_at(e, e->own); t && may_speak(e); t = turn_at(e, e->own)) {
		e->own = next_turn(e, e->own + 1, !e->client);
		if (!e->put(e->owner, t->text, t->len))
			return false;
	}
	e->over = !t && !turn_at(e, e->other);
	e->agreed = e->over && e->script->refuses[e->host] != REFUSES_ALWAYS;
	return true;
}

bool starttls_end_begin(struct starttls_end *e)
{
	e->own = next_turn(e, 0, !e->client);
	e->other = next_turn(e, 0, e->client);
	return speak(e);
}

size_t starttls_end_received(struct starttls_end *e, const uint8_t *bytes, size_t len)
{
	size_t at = 0;

	while (at < len && !e->over && !e->bad) {
		const struct turn *t = turn_at(e, e->other);
		uint8_t byte = bytes[at++];

		if (byte == SCRIPT_MARK) {
			e->marks++;
			continue;
		}
		e->bad = !t || byte != (uint8_t)t->text[e->read++];
		if (e->bad || e->read < t->len)
			continue;
		e->read = 0;
		e->other = next_turn(e, e->other + 1, e->client);
		if (!speak(e))
			return at;
	}
	return at;
}
