/* SPDX-License-Identifier: MIT */
/* The user-space half of bpf/guard.bpf.h. */
#include "steer/steer_guard.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "steer/steer_state.h"

void steer_lease(struct steer *s, uint64_t until_ns)
{
	__atomic_store_n(&s->skel->data->lease_until_ns, until_ns, __ATOMIC_RELEASE);
}

int steer_bypass(struct steer *s, const struct steer_bypass_key *keys, uint32_t count, struct err *e)
{
	const uint8_t present = 1;

	for (uint32_t i = 0; i < count; i++)
		if (bpf_map_update_elem(steer_map(s->skel->maps.mb_bypass), &keys[i], &present, BPF_ANY) < 0)
			return err_set(e, -errno, "cannot tell the kernel what to leave alone: %m");
	__atomic_store_n(&s->skel->bss->bypass_count, count, __ATOMIC_RELEASE);
	return 0;
}

int steer_mark_listener(int fd)
{
	uint32_t mark = steer_mark();

	return setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ? -errno : 0;
}

bool steer_spare(struct steer *s, uint32_t pid, const struct sockaddr *dst, uint64_t until_ns)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)dst;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)dst;
	struct steer_spared_key key = { .tgid = pid, .family = dst->sa_family };
	struct steer_spared spared = { .until_ns = until_ns };
	struct steer_proc proc;

	if (bpf_map_lookup_elem(steer_map(s->skel->maps.mb_proc), &pid, &proc) < 0)
		return false;
	spared.start = proc.start;
	if (dst->sa_family == AF_INET) {
		key.port = v4->sin_port;
		memcpy(key.ip, &v4->sin_addr, sizeof(v4->sin_addr));
	} else {
		key.port = v6->sin6_port;
		memcpy(key.ip, &v6->sin6_addr, sizeof(v6->sin6_addr));
	}
	if (bpf_map_update_elem(steer_map(s->skel->maps.mb_spared), &key, &spared, BPF_ANY) < 0)
		return false;
	__atomic_store_n(&s->skel->bss->spared_count, 1, __ATOMIC_RELEASE);
	return true;
}
