/* SPDX-License-Identifier: MIT */
/* Writes flows to a file as they end (option save_stream_file, -w). */
#pragma once

#include "base/util.h"
#include "mitm/addon.h"

/* NULL when memory is out. */
struct addon *save_new(void) __must_check;
