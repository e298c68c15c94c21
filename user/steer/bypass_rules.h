/* SPDX-License-Identifier: MIT */
/*
 * Regular expressions for "host:port" that are about addresses, as destinations that the kernel can leave alone by
 * itself. Pure.
 */
#pragma once

#include "abi/steer.h"
#include "base/str.h"

#define BYPASS_RULES_MAX 64          /* destinations of one expression */

/**
 * bypass_rules_parse() - the addresses of which an expression, searched for anywhere, matches every "ADDRESS:PORT".
 * @out: their keys; port 0: any
 *
 * What it finds is never more than the expression matches, and often less: literal addresses ("^10\.0\.0\.1:443$"),
 * leading parts of IPv4 addresses ("^192\.168\.", "10\.\d+\.\d+\.\d+:53"), IPv6 addresses in their usual form, and
 * several of them with "|" between. Everything else is none. Returns how many.
 */
uint32_t bypass_rules_parse(struct str expression, struct steer_bypass_key out[static BYPASS_RULES_MAX]);
