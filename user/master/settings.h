/* SPDX-License-Identifier: MIT */
/*
 * The options that a person can set, by mitmproxy's names where it has them: types, defaults, help, the syntax of
 * `--set name=value`, and the snapshot that workers get. Values are read with settings_*() of mitm/addon.h.
 */
#pragma once

#include "core/options.h"
#include "base/err.h"
#include "mitm/addon.h"

enum setting_type {
	SETTING_BOOL, SETTING_INT, SETTING_INT_OR_NONE, SETTING_TEXT, SETTING_TEXT_OR_NONE, SETTING_TEXTS,
	SETTING_SIZE, SETTING_SIZE_OR_NONE,      /* text with a suffix: 32m */
};

struct setting {
	const char *name;
	enum setting_type type;
	const char *initial;             /* in --set's syntax; NULL: none, or an empty sequence */
	int64_t min, max;                /* of a number; both 0: any */
	const char *const *choices;      /* NULL: any */
	const char *help;
};

extern const struct setting settings_table[];
extern const size_t settings_count;

/* Names of mitmproxy's options that are not here yet. */
extern const char *const settings_later[];
extern const size_t settings_later_count;

struct settings;

/* All defaults. NULL when memory is out. */
struct settings *settings_new(void) __must_check;
void settings_free(struct settings *s);

/*
 * `--set`: all texts are one update, "name" or "name=value" each; of a sequence option each is one element. Nothing is
 * applied unless all of it can be. Returns 0; -EINVAL with a sentence (an unknown name gets the nearest known one);
 * -ENOTSUP for an option of mitmproxy's that is not here yet; -ENOMEM.
 */
int settings_set(struct settings *s, const char *const *texts, size_t count, struct err *e) __must_check;

/* One option that takes the place of what was there; value NULL: as without "=". */
int settings_put(struct settings *s, const char *name, const char *value, struct err *e) __must_check;
/* One more element of a sequence. */
int settings_add(struct settings *s, const char *name, const char *value, struct err *e) __must_check;

/* "name+=value" and "name-=value" of a sequence, too; a copy of s with the update, or NULL and e says why. */
struct settings *settings_changed_by(const struct settings *s, const char *const *texts, size_t count,
				     struct err *e) __must_check;

/* Elements of a sequence option; borrowed. */
size_t settings_texts(const struct settings *s, const char *name, const char *const **texts);

/* Differs from its default. */
bool settings_changed(const struct settings *s, const char *name);
/* An optional number is set, too. */
bool settings_given(const struct settings *s, const char *name);

/* The value in --set's syntax; a sequence's elements joined by ", "; "none". For listings. */
void settings_write(const struct settings *s, const char *name, struct strbuf *out);
const char *settings_type_name(enum setting_type type);

/* What workers run with. Texts belong to s. */
void settings_snapshot(const struct settings *s, struct options *out);
/* The regular expressions of a snapshot. -EINVAL: one of them is wrong, and e says which. */
int settings_compile(const struct settings *s, struct options *out, struct err *e) __must_check;
/* Frees them; no worker uses out any more. */
void settings_discard(struct options *out);
