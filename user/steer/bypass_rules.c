/* SPDX-License-Identifier: MIT */
/*
 * Reads the few forms of expressions that people write for addresses, and gives up at whatever it does not know. That
 * a dot without a backslash also matches other characters, or that without ^ more may stand before, only adds to what
 * the expression matches.
 */
#include "steer/bypass_rules.h"

#include <arpa/inet.h>
#include <string.h>

#define OCTETS 4

static bool eat(struct str *s, const char *text)
{
	size_t len = strlen(text);

	if (!str_starts(*s, (struct str){ text, len }))
		return false;
	s->ptr += len;
	s->len -= len;
	return true;
}

static bool eat_any(struct str *s, const char *const *texts)
{
	for (; *texts; texts++)
		if (eat(s, *texts))
			return true;
	return false;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* As it is written in an address: no leading zeros. */
static bool eat_number(struct str *s, uint64_t max, uint64_t *out)
{
	struct str digits = { s->ptr, 0 };

	while (digits.len < s->len && is_digit(s->ptr[digits.len]))
		digits.len++;
	if (!digits.len || (digits.len > 1 && digits.ptr[0] == '0') || !str_to_u64(digits, max, out))
		return false;
	s->ptr += digits.len;
	s->len -= digits.len;
	return true;
}

/* What follows a whole address. False: it may keep the expression from matching. */
static bool parse_port(struct str rest, uint16_t *port)
{
	static const char *const any[] = {
		"", ":", ".*", ".*$", ".+", ".+$", ":.*", ":.*$", ":.+", ":.+$", ":\\d+", ":\\d+$", ":\\d*", ":\\d*$",
		":[0-9]+", ":[0-9]+$", "(:\\d+)?", "(:\\d+)?$", NULL,
	};
	uint64_t number;

	*port = 0;
	for (const char *const *tail = any; *tail; tail++)
		if (str_eq(rest, str_of(*tail)))
			return true;
	if (!eat(&rest, ":") || !eat_number(&rest, UINT16_MAX, &number) || !number)
		return false;
	*port = htons((uint16_t)number);
	return rest.len == 0 || str_eq(rest, STR("$"));
}

/* "10\.1\." and what can stand for the other numbers. bits: of the address that are said. */
static bool parse_four(struct str *s, uint8_t ip[OCTETS], uint32_t *bits)
{
	static const char *const numbers[] = { "\\d+", "\\d{1,3}", "[0-9]+", "[0-9]{1,3}", NULL };
	static const char *const everything[] = { ".*", ".+", NULL };
	static const char *const dots[] = { "\\.", ".", NULL };
	uint32_t octets = 0;
	uint64_t number;

	for (*bits = 0; octets < OCTETS; octets++) {
		if (octets && *bits && (s->len == 0 || eat_any(s, everything)))
			return true;
		if (octets && !eat_any(s, dots))
			return false;
		if (octets && (s->len == 0 || eat_any(s, everything)))
			return true;
		if (*bits == octets * 8 && eat_number(s, UINT8_MAX, &number)) {
			ip[octets] = (uint8_t)number;
			*bits += 8;
		} else if (!octets || !eat_any(s, numbers)) {
			return false;
		}
	}
	return true;
}

static bool parse4(struct str s, struct steer_bypass_key *out)
{
	uint32_t bits;

	*out = (struct steer_bypass_key){ .family = AF_INET };
	if (!parse_four(&s, out->ip, &bits) || !parse_port(s, &out->port))
		return false;
	out->prefix_len = STEER_BYPASS_PREFIX(bits);
	return true;
}

/* The address has to be written as we write it, for that is what the expression is compared with. */
static bool address6(struct str text, struct steer_bypass_key *out)
{
	char copy[INET6_ADDRSTRLEN], usual[INET6_ADDRSTRLEN];

	*out = (struct steer_bypass_key){ .family = AF_INET6, .prefix_len = STEER_BYPASS_PREFIX(128) };
	if (text.len >= sizeof(copy))
		return false;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	return inet_pton(AF_INET6, copy, out->ip) == 1 && inet_ntop(AF_INET6, out->ip, usual, sizeof(usual)) &&
	       str_eq_nocase(text, str_of(usual));
}

static bool is_of_address6(char c)
{
	return is_digit(c) || c == ':' || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

/* "a::1:443" is an address, and an address with a port: either is what the expression says. */
static uint32_t parse6(struct str s, struct steer_bypass_key out[2])
{
	struct str run = { s.ptr, 0 }, rest, port;
	uint32_t count = 0;
	size_t colon;

	while (run.len < s.len && is_of_address6(s.ptr[run.len]))
		run.len++;
	rest = (struct str){ s.ptr + run.len, s.len - run.len };
	for (colon = run.len; colon && run.ptr[colon - 1] != ':'; colon--)
		;
	if (!colon--)
		return 0;
	port = (struct str){ s.ptr + colon, s.len - colon };
	if (address6((struct str){ s.ptr, colon }, &out[count]) && parse_port(port, &out[count].port))
		count++;
	if (address6(run, &out[count]) && parse_port(rest, &out[count].port))
		count++;
	return count;
}

static uint32_t parse_one(struct str s, struct steer_bypass_key out[2])
{
	eat(&s, "^");
	return parse4(s, out) ? 1 : parse6(s, out);
}

uint32_t bypass_rules_parse(struct str expression, struct steer_bypass_key out[static BYPASS_RULES_MAX])
{
	bool several = expression.len && memchr(expression.ptr, '|', expression.len);
	uint32_t count = 0;

	/* Within any of these, or behind a backslash, a bar means something else. */
	for (size_t i = 0; several && i < expression.len; i++)
		if (strchr("([{#", expression.ptr[i]) ||
		    (expression.ptr[i] == '\\' && i + 1 < expression.len && !strchr(".d", expression.ptr[i + 1])))
			return 0;
	while (expression.ptr && expression.len && count + 2 <= BYPASS_RULES_MAX)
		count += parse_one(several ? str_cut(&expression, '|') : str_cut(&expression, 0), out + count);
	return count;
}
