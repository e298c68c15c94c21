/* SPDX-License-Identifier: MIT */
/* A byte at a time, because anything may be cut anywhere; only the beginning of a connection is looked at. */
#include "layers/starttls.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define WATCH_BYTES_MAX 65536u
#define LDAP_OID "1.3.6.1.4.1.1466.20037"

static const uint8_t postgres_tls[8] = { 0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f };
static const uint8_t postgres_gss[8] = { 0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30 };

static struct str text_of(const struct starttls_side *side)
{
	return (struct str){ (const char *)side->text, side->len };
}

static bool contains(const struct starttls_side *side, const char *word)
{
	return memmem(side->text, side->len, word, strlen(word)) != NULL;
}

static bool greeted(const struct starttls *s, const char *how)
{
	size_t len = strlen(how);

	return s->server.total >= len && memcmp(s->server.first, how, len) == 0;
}

static void ask(struct starttls *s, enum starttls_question question)
{
	s->asked = question;
	s->server.len = 0;
}

/* --- the client ------------------------------------------------------------------------------------------------ */

static void client_line(struct starttls *s, struct str line)
{
	struct str rest = line, word = str_cut(&rest, ' ');

	if (str_eq_nocase(line, STR("STARTTLS")) && greeted(s, "220")) {
		ask(s, STARTTLS_SMTP);
	} else if (str_eq_nocase(line, STR("STLS")) && greeted(s, "+OK")) {
		ask(s, STARTTLS_POP3);
	} else if (str_eq_nocase(str_trim(rest), STR("STARTTLS")) && greeted(s, "* OK") && word.len &&
		   word.len < sizeof(s->tag)) {
		memcpy(s->tag, word.ptr, word.len);
		s->tag[word.len] = 0;
		ask(s, STARTTLS_IMAP);
	}
}

/* MySQL: a handshake response that ends after its flags, CLIENT_SSL among them, after a protocol 10 greeting. */
static bool is_mysql(const struct starttls *s)
{
	static const uint8_t head[4] = { 32, 0, 0, 1 };

	return s->client.total == 36 && memcmp(s->client.first, head, sizeof(head)) == 0 &&
	       (s->client.first[5] & 0x08) && s->server.total > 5 && s->server.first[3] == 0 &&
	       s->server.first[4] == 10;
}

static bool client_byte(struct starttls *s, uint8_t byte)
{
	struct starttls_side *c = &s->client;

	if (is_mysql(s))
		return true;
	if (c->len == 8 && c->total <= 16 && memcmp(c->text, postgres_tls, 8) == 0)
		ask(s, STARTTLS_POSTGRES);
	else if (c->len == 8 && c->total == 8 && memcmp(c->text, postgres_gss, 8) == 0)
		ask(s, STARTTLS_POSTGRES_GSS);
	else if (byte == '7' && c->first[0] == 0x30 && contains(c, LDAP_OID))
		ask(s, STARTTLS_LDAP);
	else if (byte == '>' && c->first[0] == '<' && contains(c, "<starttls"))
		ask(s, STARTTLS_XMPP);
	else if (byte == '\n')
		client_line(s, str_trim(text_of(c)));
	else
		return false;
	c->len = 0;
	return false;
}

/* --- the server ------------------------------------------------------------------------------------------------ */

enum reply { REPLY_WAIT, REPLY_YES, REPLY_NO };

/* What was asked before in one go is answered first. */
static enum reply smtp_reply(struct str line)
{
	if (str_starts(line, STR("220")))
		return REPLY_YES;
	return str_starts(line, STR("4")) || str_starts(line, STR("5")) ? REPLY_NO : REPLY_WAIT;
}

static enum reply imap_reply(const struct starttls *s, struct str line)
{
	if (!str_eq(str_cut(&line, ' '), str_of(s->tag)))
		return REPLY_WAIT;
	return str_eq_nocase(str_cut(&line, ' '), STR("OK")) ? REPLY_YES : REPLY_NO;
}

/* A BER length at text[*at]: how much follows it; false: it is not there yet. */
static bool ber_length(const struct starttls_side *side, size_t *at, size_t *len)
{
	size_t more;

	if (*at >= side->len)
		return false;
	*len = side->text[(*at)++];
	if (*len < 0x80)
		return true;
	more = *len & 0x7f;
	*len = 0;
	for (; more; more--) {
		if (*at >= side->len || *len > STARTTLS_TEXT_MAX)
			return false;
		*len = *len << 8 | side->text[(*at)++];
	}
	return true;
}

/* LDAPMessage { messageID, extendedResp [APPLICATION 24] { resultCode … } }, looked at when all of it is there. */
static enum reply ldap_reply(const struct starttls_side *side)
{
	size_t at = 1, whole, len;

	if (side->text[0] != 0x30)
		return REPLY_NO;
	if (!ber_length(side, &at, &whole) || side->len < at + whole)
		return REPLY_WAIT;
	at++;
	if (!ber_length(side, &at, &len) || at + len >= side->len || side->text[at + len] != 0x78)
		return REPLY_NO;
	at += len + 1;
	if (!ber_length(side, &at, &len) || at + 3 > side->len)
		return REPLY_NO;
	return memcmp(side->text + at, "\x0a\x01\x00", 3) == 0 ? REPLY_YES : REPLY_NO;
}

static enum reply reply(const struct starttls *s, uint8_t byte)
{
	const struct starttls_side *side = &s->server;
	struct str line = byte == '\n' ? str_trim(text_of(side)) : STR("");

	switch (s->asked) {
	case STARTTLS_SMTP:
		return line.len ? smtp_reply(line) : REPLY_WAIT;
	case STARTTLS_POP3:
		if (line.len == 0)
			return REPLY_WAIT;
		return str_starts(line, STR("+OK")) ? REPLY_YES : REPLY_NO;
	case STARTTLS_IMAP:
		return line.len ? imap_reply(s, line) : REPLY_WAIT;
	case STARTTLS_XMPP:
		if (byte != '>')
			return REPLY_WAIT;
		return contains(side, "<proceed") ? REPLY_YES : contains(side, "<failure") ? REPLY_NO : REPLY_WAIT;
	case STARTTLS_LDAP:
		return ldap_reply(side);
	case STARTTLS_POSTGRES:
		return byte == 'S' ? REPLY_YES : REPLY_NO;
	case STARTTLS_POSTGRES_GSS:
		return REPLY_NO;
	case STARTTLS_NONE:
		return REPLY_WAIT;
	}
	abort();
}

static bool server_byte(struct starttls *s, uint8_t byte)
{
	enum reply answer = reply(s, byte);

	if (byte == '\n' && s->asked != STARTTLS_LDAP && s->asked != STARTTLS_XMPP)
		s->server.len = 0;
	if (answer == REPLY_NO)
		s->asked = STARTTLS_NONE;
	return answer == REPLY_YES;
}

/* --- both ------------------------------------------------------------------------------------------------------ */

static bool take(struct starttls *s, bool from_client, uint8_t byte)
{
	struct starttls_side *side = from_client ? &s->client : &s->server;

	if (side->total < STARTTLS_FIRST_MAX)
		side->first[side->total] = byte;
	side->total++;
	if (side->len == STARTTLS_TEXT_MAX) {
		side->len = STARTTLS_TEXT_MAX / 2;
		memmove(side->text, side->text + side->len, side->len);
	}
	side->text[side->len++] = byte;
	return from_client ? client_byte(s, byte) : server_byte(s, byte);
}

size_t starttls_watch(struct starttls *s, bool from_client, const struct chain *data, bool *agreed)
{
	size_t count = 0;

	*agreed = false;
	for (uint32_t i = 0; i < data->count && !s->off; i++) {
		const struct slice *piece = chain_see(data, i);

		for (uint32_t k = 0; k < piece->len && !s->off; k++) {
			count++;
			if (take(s, from_client, piece->ptr[k])) {
				s->off = *agreed = true;
				return count;
			}
			s->off = s->client.total + s->server.total > WATCH_BYTES_MAX;
		}
	}
	return data->len;
}
