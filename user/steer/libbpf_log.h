/* SPDX-License-Identifier: MIT */
/* libbpf's messages go to our log at debug level: what it calls a warning is often a guess ("raise ulimit -l"). */
#pragma once

/* Before the first use of libbpf. May be called again. */
void libbpf_log_init(void);
