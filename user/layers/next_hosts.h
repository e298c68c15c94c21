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

/* tcp_hosts. */
bool next_hosts_is_tcp(const struct env *env, const struct conn *client, const struct conn *server);
