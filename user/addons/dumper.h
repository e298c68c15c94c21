/* SPDX-License-Identifier: MIT */
/* Prints flows as they pass (options flow_detail, showhost, content_view_lines_cutoff). */
#pragma once

#include "base/util.h"
#include "mitm/addon.h"

/* fd: where to; colours when it is a terminal and NO_COLOR is not set. NULL when memory is out. */
struct addon *dumper_new(int fd) __must_check;
