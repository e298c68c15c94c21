/* SPDX-License-Identifier: MIT */
/* PCRE2 with memory from base/mem, and a bound on how long one match may take. */
#include "core/patterns.h"

#include <errno.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"

#define MATCH_STEPS_MAX 100000

struct patterns {
	pcre2_general_context *memory;
	pcre2_match_context *limits;
	size_t count;
	pcre2_code *codes[];
};

static void *take(PCRE2_SIZE size, void *owner __unused)
{
	return mem_alloc(size);
}

static void give(void *ptr, void *owner __unused)
{
	mem_free(ptr);
}

static int compile(struct patterns *p, pcre2_compile_context *context, const char *text, struct err *e)
{
	PCRE2_UCHAR why[120];
	PCRE2_SIZE at;
	int code;

	p->codes[p->count] = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS, &code, &at,
					   context);
	if (p->codes[p->count]) {
		p->count++;
		return 0;
	}
	pcre2_get_error_message(code, why, sizeof(why));
	return err_set(e, -EINVAL, "Invalid regular expression %.200s: %s (at character %zu).", text, (const char *)why,
		       (size_t)at + 1);
}

int patterns_new(struct patterns **out, const char *const *texts, size_t count, struct err *e)
{
	struct patterns *p = mem_zalloc(sizeof(*p) + count * sizeof(p->codes[0]));
	pcre2_compile_context *context = NULL;
	int ret = -ENOMEM;

	if (p)
		p->memory = pcre2_general_context_create(take, give, NULL);
	if (p && p->memory) {
		p->limits = pcre2_match_context_create(p->memory);
		context = pcre2_compile_context_create(p->memory);
	}
	if (!p || !p->limits || !context)
		err_set(e, ret, "out of memory");
	else
		ret = 0;
	for (size_t i = 0; i < count && ret == 0; i++)
		ret = compile(p, context, texts[i], e);
	pcre2_compile_context_free(context);
	if (ret < 0) {
		patterns_free(p);
		return ret;
	}
	pcre2_set_match_limit(p->limits, MATCH_STEPS_MAX);
	*out = p;
	return 0;
}

void patterns_free(struct patterns *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count; i++)
		pcre2_code_free(p->codes[i]);
	pcre2_match_context_free(p->limits);
	pcre2_general_context_free(p->memory);
	mem_free(p);
}

bool patterns_match(const struct patterns *p, struct str text)
{
	pcre2_match_data *data = p ? pcre2_match_data_create(1, p->memory) : NULL;
	bool found = false;

	for (size_t i = 0; data && i < p->count && !found; i++)
		found = pcre2_match(p->codes[i], (PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len, 0, 0, data,
				    p->limits) >= 0;
	pcre2_match_data_free(data);
	return found;
}
