/* SPDX-License-Identifier: MIT */
/*
 * Tagged netstrings, the encoding of flow files (spec: mitmproxy 12 io/tnetstring.py):
 *
 *   item = length ":" payload tag      length: decimal, of the payload
 *
 * with tag , bytes  ; text (UTF-8)  # integer  ^ float  ! bool  ~ none  ] list of items  } dict (key, value, …).
 * The reader looks at bytes that are there and allocates nothing. The writer works from the end of its buffer towards
 * the front, because a length precedes what it counts; so dict members come out last to first, which is the order that
 * mitmproxy's writer leaves in its files.
 */
#pragma once

#include "base/buf.h"

#define TNET_LENGTH_DIGITS_MAX 12
#define TNET_DEPTH_MAX 200

struct tnet {
	char tag;                    /* 0: none was read */
	struct str payload;
	struct str raw;              /* the whole item */
};

/*
 * How much the item at the start of bytes takes. Returns 0; -EAGAIN when bytes ends before its tag (*size is what it
 * will take, or 0 while even that is unknown); or -EBADMSG.
 */
int tnet_measure(struct str bytes, size_t *size) __must_check;

/*
 * Takes the first item off *rest, checking its tag and its scalar syntax, not what a list or dict holds. Returns 0, or
 * -EBADMSG when rest does not begin with a whole, valid item.
 */
int tnet_next(struct str *rest, struct tnet *item) __must_check;

/* Whether everything inside the item is valid, not deeper than TNET_DEPTH_MAX, with scalar keys. */
bool tnet_valid(const struct tnet *item);

/* Of an item that tnet_next() gave. tnet_int: false when it does not fit. */
bool tnet_int(const struct tnet *item, int64_t *out);
double tnet_float(const struct tnet *item);
static inline bool tnet_bool(const struct tnet *item)
{
	return item->payload.len == 4;
}

/* Bytes that belong into what is written and are elsewhere: who writes it out gets them from there. */
struct tnet_absent {
	size_t behind;               /* they go in front of the last so many bytes of buf */
	uint64_t len;
	const void *where;           /* the caller's */
};

#define TNET_ABSENT_MAX 8
#define FLOAT_TEXT_MAX 32

struct tnet_writer {
	char *buf, *end;             /* the memory */
	char *at;                    /* what is written begins there, and goes on to its end */
	bool failed;                 /* memory was out; sticky */
	uint32_t absent_count;
	uint64_t absent_len;         /* of all */
	struct tnet_absent absent[TNET_ABSENT_MAX];      /* back to front */
	double number;               /* the last float, and its item: times come in twos and threes */
	uint32_t number_len;         /* 0: there was none yet */
	char number_item[FLOAT_TEXT_MAX + 4];
};                                   /* {0} is ready */

/* Makes room for so many more bytes at once; optional. */
void tnet_reserve(struct tnet_writer *w, size_t more);

void tnet_put_bytes(struct tnet_writer *w, struct str bytes);
/* A list of two. */
void tnet_put_pair(struct tnet_writer *w, struct str first, struct str second);
void tnet_put_chain(struct tnet_writer *w, const struct chain *bytes);
/* The same with len more bytes behind it that are elsewhere. */
void tnet_put_chain_and(struct tnet_writer *w, const struct chain *bytes, const void *where, uint64_t len);
/* Whole items, or a part of one, that are elsewhere. */
void tnet_put_absent(struct tnet_writer *w, const void *where, uint64_t len);
/* Bytes that are no UTF-8 become \xNN, since a reader would refuse the whole file. */
void tnet_put_text(struct tnet_writer *w, struct str text);
/* Text that is known to be UTF-8. */
void tnet_put_utf8(struct tnet_writer *w, struct str text);
void tnet_put_int(struct tnet_writer *w, int64_t value);
void tnet_put_float(struct tnet_writer *w, double value);
void tnet_put_bool(struct tnet_writer *w, bool value);
void tnet_put_none(struct tnet_writer *w);
void tnet_put_raw(struct tnet_writer *w, struct str items);
/* The same for what is known when this is compiled. */
static inline void tnet_put_literal(struct tnet_writer *w, const char *items, size_t len)
{
	if (unlikely((size_t)(w->at - w->buf) < len)) {
		tnet_put_raw(w, (struct str){ items, len });
		return;
	}
	w->at -= len;
	memcpy(w->at, items, len);
}
/* An item whose payload of len bytes the caller fills, before the next put. NULL when memory is out. */
char *tnet_put_room(struct tnet_writer *w, char tag, size_t len) __must_check;

/* A list or dict: put its items last to first (of a dict member the value, then the key) between these two. */
size_t tnet_open(struct tnet_writer *w, char tag);
void tnet_close(struct tnet_writer *w, size_t opened);

/* What was written; valid until the next put. */
static inline struct str tnet_written(const struct tnet_writer *w)
{
	return (struct str){ w->at, (size_t)(w->end - w->at) };
}

/* Empties it and keeps the memory. */
static inline void tnet_rewind(struct tnet_writer *w)
{
	w->at = w->end;
	w->failed = false;
	w->absent_count = 0;
	w->absent_len = 0;
}

void tnet_writer_fini(struct tnet_writer *w);

/* The shortest digits that read back as the same number, in Python's form ("1.0", "1e-05", "nan"). Returns out. */
const char *float_text(double value, char out[static FLOAT_TEXT_MAX]);
