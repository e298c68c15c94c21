/* SPDX-License-Identifier: MIT */
/* From words to an exit status: 0 well, 1 something failed, 2 the command line was not understood. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/control.h"
#include "app/doctor.h"
#include "app/doctor_target.h"
#include "app/program.h"
#include "app/ps.h"
#include "app/release.h"
#include "app/rules.h"
#include "app/run.h"
#include "app/term_log.h"
#include "app/trust_target.h"
#include "crypto/ossl_mem.h"

#define HEAP_STEP (1 << 20)

static enum log_level level_of(const struct settings *s)
{
	const char *name = settings_text(s, "termlog_verbosity");

	if (strcmp(name, "error") == 0)
		return LOG_ERROR;
	if (strcmp(name, "warn") == 0 || strcmp(name, "alert") == 0)
		return LOG_WARN;
	return strcmp(name, "debug") == 0 ? LOG_DEBUG : LOG_INFO;
}

/* A reader that left early (mitm-bpf --help | head) is no failure. */
static int print(struct strbuf *text, int status)
{
	size_t done = 0;

	while (!text->failed && done < text->len) {
		ssize_t part = write(STDOUT_FILENO, text->ptr + done, text->len - done);

		if (part <= 0)
			break;
		done += (size_t)part;
	}
	strbuf_fini(text);
	return status;
}

static int ask(const struct cli *cli)
{
	struct strbuf text = { 0 };
	struct err e = { 0 };

	if (control_ask(cli->pid, cli->words, cli->word_count, CONTROL_SECONDS, &text, &e) == 0)
		return print(&text, 0);
	term_say(&e);
	strbuf_fini(&text);
	return 1;
}

static int rules(const struct cli *cli)
{
	struct strbuf text = { 0 };
	struct err e = { 0 };

	if (rules_write(cli->words, cli->word_count, &text, &e) == 0)
		return print(&text, 0);
	term_say(&e);
	strbuf_fini(&text);
	return 2;
}

static int run(const struct cli *cli, bool sigpipe_ignored)
{
	struct strbuf text = { 0 };
	int status;

	switch (cli->action) {
	case CLI_HELP:
		cli_help(&text);
		return print(&text, 0);
	case CLI_VERSION:
		cli_version(&text);
		return print(&text, 0);
	case CLI_OPTIONS:
		cli_options(cli->settings, &text);
		return print(&text, 0);
	case CLI_DOCTOR:
		status = cli->target ? doctor_target(&(struct doctor_target){ .name = cli->target, .proxy = cli->pid,
									      .json = cli->json,
									      .settings = cli->settings }, &text) :
				       doctor_run(cli->settings, cli->json, &text);
		return print(&text, status);
	case CLI_ASK:
		return ask(cli);
	case CLI_PS:
		return ps_run(cli->pid, cli->watch);
	case CLI_RELEASE:
		status = release_run(&text);
		return print(&text, status);
	case CLI_RULES:
		return rules(cli);
	case CLI_RUN:
	case CLI_COMMAND:
	case CLI_TRUST:
		break;
	}
	term_log_init(level_of(cli->settings));
	if (cli->action == CLI_COMMAND)
		return run_tree(&(struct run_config){ .settings = cli->settings, .words = cli->command,
						      .user = cli->user, .sigpipe_ignored = sigpipe_ignored });
	if (cli->action == CLI_TRUST)
		status = cli->container ? trust_container(cli->settings, cli->container, cli->undo) :
					  trust_target(cli->settings, (pid_t)cli->pid, cli->undo);
	else
		status = program_run(cli->settings, NULL);
	term_log_flush();
	return status;
}

int main(int argc, char **argv)
{
	struct cli cli;
	struct err e = { 0 };
	bool sigpipe_ignored;
	int status;

	/* Threads' heaps grow by this much: at glibc's default a busy worker would ask the kernel for each request. */
	mallopt(M_TOP_PAD, HEAP_STEP);
	ossl_mem_install();
	sigpipe_ignored = signal(SIGPIPE, SIG_IGN) == SIG_IGN;
	if (cli_parse(&cli, argc, argv, &e) < 0) {
		term_say(&e);
		return 2;
	}
	status = run(&cli, sigpipe_ignored);
	settings_free(cli.settings);
	return status;
}
