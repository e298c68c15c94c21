/* SPDX-License-Identifier: MIT */
/* Mounts are made with our rights, and files of the user's read with his; both are given up before exec. */
#include "app/run_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/run_env.h"
#include "app/term_log.h"
#include "base/log.h"
#include "steer/mounts.h"

static bool read_go(int fd, struct strbuf *out)
{
	char part[4096];
	ssize_t got;

	while ((got = read(fd, part, sizeof(part))) > 0 || (got < 0 && errno == EINTR))
		strbuf_add(out, part, got > 0 ? (size_t)got : 0);
	close(fd);
	return !out->failed && out->len;
}

/* True: a namespace of our own, with memory at the folder for what nobody else needs to see. */
static bool enter_mounts(const struct run_command *c)
{
	struct err e = { 0 };

	if (!c->privileged)
		return false;
	if (mounts_private(&e) == 0 && mounts_memory(c->folder, &e) == 0)
		return true;
	log_line(LOG_WARN, "run", "The command trusts the CA only by its environment: %s", e.text);
	return false;
}

static void cover_stores(struct client_trust *t)
{
	const struct client_trust_cover *covers;
	size_t count = client_trust_cover(t, &covers);
	int fds[CLIENT_TRUST_COVERS_MAX];
	struct err e = { 0 };

	for (size_t i = 0; i < count; i++)
		fds[i] = mounts_take(covers[i].from, &e);
	for (size_t i = 0; i < count; i++) {
		if (fds[i] < 0 || mounts_place(fds[i], covers[i].onto, &e) < 0)
			log_line(LOG_WARN, "run", "%s", e.text);
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

/* What a browser is told of the folder to use: Firefox's, and its kin's. */
static const char *profile_of(char *const *words)
{
	for (; words[0] && words[1]; words++)
		if (strcmp(words[0], "--profile") == 0 || strcmp(words[0], "-profile") == 0)
			return words[1];
	return NULL;
}

static void trust_ca(const struct run_command *c, struct str pem)
{
	bool covered = enter_mounts(c);
	const struct client_trust_config config = { .folder = c->folder, .pem = pem, .home = c->user.home,
						    .profile = profile_of(c->words), .uid = c->user.uid,
						    .gid = c->user.gid, .descriptors = -1 };
	struct client_trust *t;
	struct err e = { 0 };

	if (client_trust_new(&t, &config, &e) < 0) {
		log_line(LOG_ERROR, "run", "The command does not trust the CA: %s", e.text);
		return;
	}
	/* Variables first: copies are made of what is there before the mounts. */
	run_env_trust(t, covered);
	if (covered && client_trust_awaits(t, c->words[0]))
		log_line(LOG_WARN, "run", "%s will not trust the CA: its database of authorities is made when it first "
			 "starts. Start it once without mitm-bpf, then again.", c->words[0]);
	if (covered)
		cover_stores(t);
	client_trust_free(t);
}

/* Folders of PATH that we may not enter make execvp() say EACCES for what is nowhere. */
static bool exists(const char *name)
{
	const char *path = getenv("PATH");
	struct str rest = str_of(path ? path : "/bin:/usr/bin");
	bool found = strchr(name, '/');

	while (rest.len && !found) {
		struct str folder = str_cut(&rest, ':');
		struct strbuf file = { 0 };

		strbuf_addf(&file, "%.*s/%s", (int)folder.len, folder.ptr, name);
		found = file.failed || access(file.ptr, F_OK) == 0;
		strbuf_fini(&file);
	}
	return found;
}

static _Noreturn void exec_words(char *const *words)
{
	int code;

	execvp(words[0], words);
	code = errno == EACCES && !exists(words[0]) ? ENOENT : errno;
	errno = code;
	fprintf(stderr, "mitm-bpf: cannot run %s: %m\n", words[0]);
	_exit(code == ENOENT || code == ENOTDIR ? RUN_NOT_FOUND : RUN_NOT_EXECUTABLE);
}

void run_command_exec(const struct run_command *c)
{
	struct strbuf go = { 0 };
	struct err e = { 0 };
	struct str pem, port;
	uint64_t number = 0;

	if (!read_go(c->go_fd, &go))
		_exit(RUN_FAILED);
	pem = (struct str){ go.ptr, go.len };
	port = str_cut(&pem, '\n');
	trust_ca(c, pem);
	if (!c->privileged && str_to_u64(port, UINT16_MAX, &number))
		run_env_proxy((uint16_t)number, c->loopback);
	if (run_user_become(&c->user, &e) < 0) {
		log_line(LOG_ERROR, "run", "%s", e.text);
		_exit(RUN_FAILED);
	}
	term_log_flush();
	strbuf_fini(&go);
	if (!c->sigpipe_ignored)
		signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &c->signals, NULL);
	exec_words(c->words);
}
