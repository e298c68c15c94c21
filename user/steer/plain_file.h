/* SPDX-License-Identifier: MIT */
/* Files under names that somebody else chooses, who may be hostile. Thread: any. */
#pragma once

#include "base/str.h"

/**
 * plain_file_read() - appends what a regular file holds.
 *
 * Links are followed. What is no regular file is not even opened: a pipe would make us wait, and to open a device can
 * have effects. Returns 0; -EINVAL: it is none; -EFBIG: over @max bytes; -ENOMEM, or what open() or read() say.
 */
int plain_file_read(const char *path, size_t max, struct strbuf *out) __must_check;
