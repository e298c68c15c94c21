/* SPDX-License-Identifier: MIT */
/*
 * Hooks that ask: a question for the master from what a layer or the driver asks about, and its decisions carried out
 * once it is back. Thread: the worker's.
 */
#pragma once

#include "core/driver.h"
#include "core/report.h"

/* arg as in layer_hook(). NULL: memory is out. */
struct hook_question *question_new(struct driver *d, enum hook_id hook, void *arg, uint64_t token) __must_check;

/* Carries out what was decided, where somebody still waits for it, lets them go on, and frees the question. */
void question_answered(struct hook_question *q);
