/* SPDX-License-Identifier: MIT */
/* A line of JSON for every hook: what recorded conversations are compared with (option hook_trace). */
#pragma once

#include "mitm/addon.h"

/* NULL: out of memory. Does nothing unless its option is set. */
struct addon *hook_trace_new(void);
