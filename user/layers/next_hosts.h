/* SPDX-License-Identifier: MIT */
/* Which connections are left alone, and which are relayed as TCP whatever they say, by where they go (spec/layers 5).
 */
#pragma once

#include "core/conn.h"

enum next_hosts_verdict { NEXT_HOSTS_NO, NEXT_HOSTS_YES, NEXT_HOSTS_WAIT };

/*
 * Whether ignore_hosts and allow_hosts say that this is not ours to look at. bytes: all that the client has said here.
 * server may be NULL. final: no more will come, decide now. WAIT: a name may be on its way.
 */
enum next_hosts_verdict next_hosts_ignored(const struct env *env, const struct conn *client, const struct conn *server,
					   struct str bytes, bool server_spoke, bool final);

/* More of a client's first bytes than this are not looked at. */
#define NEXT_HOSTS_BYTES_MAX 16384

/*
 * What a client that thinks that it is connected to its destination calls that: in the SNI of its ClientHello, or in
 * the Host header of its HTTP/1 request (but not of one to a proxy). bytes: all that it has said. Returns the length of
 * the host name; 0 when more bytes may tell; -ENOENT: none, or an address.
 */
int next_hosts_called(struct str bytes, char host[static LAYER_HOST_MAX]);
/* The same of what waits in the layer's queue, as layer_ops.host. */
int next_hosts_queued(const struct layer *l, const struct conn *client, char host[static LAYER_HOST_MAX]);
/* The same of a Host header, or of what else names a server and perhaps its port; never 0. */
int next_hosts_authority(struct str authority, char host[static LAYER_HOST_MAX]);

/* tcp_hosts. */
bool next_hosts_is_tcp(const struct env *env, const struct conn *client, const struct conn *server);
