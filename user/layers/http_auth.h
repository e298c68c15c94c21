/* SPDX-License-Identifier: MIT */
/* Who may use the proxy, and who we are to those behind it (spec/layers 15, spec/modes 13). */
#pragma once

#include "layers/http.h"

/*
 * Whether this request comes from somebody who may use the proxy; the field that said so is taken out of it. Else the
 * flow has a 407 (or 401) as its response, with its body in body. -EACCES then; 0; -ENOMEM.
 */
int http_auth_check(struct http *h, struct flow *flow, struct chain *body) __must_check;

/* Sets a field to "Basic …" of "user:password". 0 or -ENOMEM. */
int http_auth_add(struct flow *f, struct str name, const char *credentials) __must_check;

/* upstream_auth, where the request needs it. 0 or -ENOMEM. */
int http_auth_upstream(struct http *h, struct flow *f) __must_check;
