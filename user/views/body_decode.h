/* SPDX-License-Identifier: MIT */
/* Undoing a body's content-encoding for those who look at it: gzip and deflate. */
#pragma once

#include "base/str.h"

/*
 * Appends at most max bytes of the decoded body. encoding: the Content-Encoding field as it is. Returns false, with out
 * as it was, when there is nothing to undo, or it is a coding that is not known, or body is not in it.
 * A body that was cut gives what there is. *cut: there was more than max.
 */
bool body_decode(struct strbuf *out, struct str body, struct str encoding, size_t max, bool *cut);
