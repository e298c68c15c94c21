/* SPDX-License-Identifier: MIT */
/* The program from settings to exit status: CA, listeners, steering, workers, master, and all of it down again. */
#pragma once

#include "master/settings.h"

/* Logs what is wrong. Returns the exit status. */
int program_run(const struct settings *settings);
