/* SPDX-License-Identifier: MIT */
/* The part of the I/O suite that is about how connections end. */
#pragma once

void half_close_by_peer(void **state);
void half_close_by_us(void **state);
void reset_is_a_reset(void **state);
void reset_after_fin(void **state);
void last_words(void **state);
void broken_while_paused(void **state);
void broken_and_unread(void **state);
void told_ends_the_turn(void **state);
void close_flushes(void **state);
void close_with_reset(void **state);
void reset_comes_last(void **state);
void linger_ends(void **state);
void close_in_callback(void **state);
