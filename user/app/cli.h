/* SPDX-License-Identifier: MIT */
/* The command line: words into settings. Nothing here runs anything. */
#pragma once

#include "master/settings.h"

enum cli_action {
	CLI_RUN, CLI_COMMAND, CLI_TRUST, CLI_DOCTOR, CLI_ASK, CLI_PS, CLI_RELEASE, CLI_RULES, CLI_HELP, CLI_VERSION,
	CLI_OPTIONS,
};

struct cli {
	enum cli_action action;
	bool json;                       /* doctor --json */
	const char *target;              /* CLI_DOCTOR: a process; NULL: the machine */
	char *const *command;            /* CLI_COMMAND: the words after its options, up to a NULL; of argv */
	const char *user;                /* CLI_COMMAND: --user; may be NULL */
	struct settings *settings;       /* freed with settings_free() */
	const char *const *words;        /* CLI_ASK: "set" or "get", and what follows; CLI_RULES: that; of argv */
	size_t word_count;
	long pid;                        /* CLI_ASK, CLI_PS, CLI_DOCTOR: whom; 0: the only one. CLI_TRUST: whose */
	const char *container;           /* CLI_TRUST: its name or id; NULL: pid says whose */
	bool undo;                       /* CLI_TRUST: --undo */
	bool watch;                      /* CLI_PS: again and again */
};

/* Returns 0; -EINVAL or -ENOTSUP for what it does not understand, with a sentence; -ENOMEM. */
int cli_parse(struct cli *cli, int argc, char **argv, struct err *e) __must_check;

/* Append what --help, --version, --options print. */
void cli_help(struct strbuf *out);
void cli_version(struct strbuf *out);
void cli_options(const struct settings *s, struct strbuf *out);
