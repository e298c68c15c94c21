/* SPDX-License-Identifier: MIT */
/*
 * A client's connection to the proxy that speaks HTTP/2 and carries talks, each in the stream of a CONNECT (RFC 9113
 * 8.5), each to another host. It begins with the first of its talks, ends after the last, or breaks when its script
 * says so. To a talk the stream is what the network is to others.
 */
#pragma once

#include "far.h"
#include "script.h"

struct trunk;
struct universe;

/* which: index of the script's. */
struct trunk *trunk_new(struct universe *u, uint32_t which);
/* Before far_free_all(). */
void trunk_free(struct trunk *t);

/* The tunnel of talk, to where it goes; its first event comes later. */
struct far *trunk_connect(struct trunk *t, const struct talk *talk, const struct far_events *ev, void *owner);
