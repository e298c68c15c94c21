/* SPDX-License-Identifier: MIT */
/* The datagram part of the I/O suite; both ends are the backend's. */
#pragma once

void dgram_exchanges(void **state);
void dgram_sizes(void **state);
void dgram_segments(void **state);
void dgram_many_peers(void **state);
void dgram_pauses(void **state);
void dgram_is_bounded(void **state);
void dgram_refused(void **state);
void dgram_close_in_callback(void **state);
void dgram_close_sends_first(void **state);
void dgram_failing_memory(void **state);
void dgram_freed_in_the_middle(void **state);
