/* SPDX-License-Identifier: MIT */
/* What a reverse proxy changes in the messages that pass (spec/modes 11, spec/layers 8.3). */
#pragma once

#include "layers/http.h"

/* The Host field names the target, unless keep_host_header. 0 or -ENOMEM. */
int http_reverse_host(struct http *h, struct flow *f) __must_check;
/* Alternative services lead to us, unless keep_alt_svc_header. 0 or -ENOMEM. */
int http_reverse_alt_svc(struct http *h, struct flow *f) __must_check;
