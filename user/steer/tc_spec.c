/* SPDX-License-Identifier: MIT */
/* The order of a spec becomes longest-prefix matching, which the kernel has: see settle(). */
#include "steer/tc_spec.h"

#include <errno.h>

#include "abi/tc.h"
#include "base/addr.h"
#include "base/mem.h"

#define BITS 128
#define BITS4 32

static bool bit(const uint8_t *ip, uint32_t i)
{
	return ip[i / 8] >> (7 - i % 8) & 1;
}

/* All of b is in a. */
static bool covers(const struct tc_client *a, const struct tc_client *b)
{
	if (a->prefix > b->prefix)
		return false;
	for (uint32_t i = 0; i < a->prefix; i++)
		if (bit(a->ip, i) != bit(b->ip, i))
			return false;
	return true;
}

/* Or a control character, or the end of a string within it. */
static bool has_blank(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if ((unsigned char)name.ptr[i] <= ' ')
			return true;
	return false;
}

static int parse_name(struct tc_spec *s, struct str name, struct err *e)
{
	if (name.len == 0)
		return err_set(e, -EINVAL, "the name of an interface is missing, for example tc:eth1 (`ip link` lists "
			       "them)");
	if (name.len >= sizeof(s->name) || memchr(name.ptr, '/', name.len) || has_blank(name))
		return err_set(e, -EINVAL, "no interface can be called %.*s", (int)MIN(name.len, (size_t)80), name.ptr);
	memcpy(s->name, name.ptr, name.len);
	if (str_eq(name, STR("lo")))
		return err_set(e, -EINVAL, "lo carries this machine's own traffic alone; its programs are intercepted "
			       "with --intercept");
	return 0;
}

static int parse_client(struct tc_client *c, struct str item, struct err *e)
{
	struct str rest = item, ip;
	uint64_t bits;
	struct addr a;
	uint32_t most;

	*c = (struct tc_client){ .taken = true };
	if (rest.len && rest.ptr[0] == '!') {
		c->taken = false;
		rest = str_trim((struct str){ rest.ptr + 1, rest.len - 1 });
	}
	ip = str_cut(&rest, '/');
	if (!addr_parse(&a, ip))
		return err_set(e, -EINVAL, "%.*s is no address of a client; expected one like 10.1.0.5, 10.1.0.0/16 or "
			       "fd00::/8", (int)MIN(item.len, (size_t)80), item.ptr);
	most = a.family == 4 ? BITS4 : BITS;
	bits = most;
	if (rest.ptr && !str_to_u64(rest, most, &bits))
		return err_set(e, -EINVAL, "%.*s: expected a number of bits up to %u after the /",
			       (int)MIN(item.len, (size_t)80), item.ptr, most);
	c->prefix = (uint8_t)(BITS - most + bits);
	memcpy(c->ip, a.ip, sizeof(c->ip));
	for (uint32_t i = c->prefix; i < BITS; i++)
		c->ip[i / 8] &= (uint8_t)~(0x80 >> i % 8);
	return 0;
}

static int add(struct tc_spec *s, const struct tc_client *c, struct err *e)
{
	struct tc_client *grown;

	if (s->count == TC_CLIENTS_MAX / TC_SLOTS_MAX)
		return err_set(e, -E2BIG, "more than %d clients", TC_CLIENTS_MAX / TC_SLOTS_MAX);
	grown = mem_realloc(s->clients, (s->count + 1) * sizeof(*grown));
	if (!grown)
		return err_set(e, -ENOMEM, "out of memory");
	s->clients = grown;
	s->clients[s->count++] = *c;
	return 0;
}

/*
 * All prefixes that hold an address hold one another. So the last of them that matches is the last of those that hold
 * the longest one, which depends on that alone.
 */
static void settle(struct tc_spec *s)
{
	uint32_t kept = 0;

	/* Backwards: what is looked at has not been changed yet. */
	for (uint32_t i = s->count; i-- > 0;)
		for (uint32_t k = s->count; k-- > i + 1;)
			if (covers(&s->clients[k], &s->clients[i])) {
				s->clients[i].taken = s->clients[k].taken;
				break;
			}
	for (uint32_t i = 0; i < s->count; i++) {
		bool again = false;

		for (uint32_t k = 0; k < kept; k++)
			again |= s->clients[k].prefix == s->clients[i].prefix &&
				 covers(&s->clients[k], &s->clients[i]);
		if (!again)
			s->clients[kept++] = s->clients[i];
	}
	s->count = kept;
}

int tc_spec_parse(struct tc_spec *out, struct str text, struct err *e)
{
	struct str rest = text;
	int ret;

	*out = (struct tc_spec){ .others = true };
	ret = parse_name(out, str_trim(str_cut(&rest, ',')), e);
	for (bool first = true; ret == 0 && rest.ptr; first = false) {
		struct tc_client c;

		ret = parse_client(&c, str_trim(str_cut(&rest, ',')), e);
		if (first)
			out->others = !c.taken;
		if (ret == 0)
			ret = add(out, &c, e);
	}
	if (ret == 0)
		settle(out);
	return ret;
}

void tc_spec_fini(struct tc_spec *s)
{
	mem_free(s->clients);
	*s = (struct tc_spec){ 0 };
}

bool tc_spec_is_pattern(const struct tc_spec *s)
{
	size_t len = strlen(s->name);

	return len && s->name[len - 1] == '*';
}

bool tc_spec_fits(const struct tc_spec *s, const char *name)
{
	if (tc_spec_is_pattern(s))
		return strncmp(s->name, name, strlen(s->name) - 1) == 0;
	return strcmp(s->name, name) == 0;
}
