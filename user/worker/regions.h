/* SPDX-License-Identifier: MIT */
/*
 * Memory for pools of blocks (base/blocks.h): from the kernel, and back to it. Ordinary pages: that the blocks of flows
 * lie in the order of their use is what counts. Huge pages on top of it made no difference, and cost more to fill.
 */
#pragma once

#include "base/blocks.h"

/*
 * NULL in a build with a sanitizer, which wants to see every allocation come and go: flows are from the heap then.
 * Thread: any.
 */
const struct blocks_source *regions_source(void);
