/* SPDX-License-Identifier: MIT */
/* A JSON file says what hooks do to traffic, so that tests can drive the program (option hook_control). */
#pragma once

#include "mitm/addon.h"

/* NULL: out of memory. Does nothing unless its option is set. */
struct addon *hook_control_new(void);
