/* SPDX-License-Identifier: MIT */
/* What sudo leaves of its caller, and login's way to become a user. */
#include "app/run_user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"

static struct passwd *find_passwd(const char *text, uid_t *uid)
{
	struct passwd *known = getpwnam(text);
	uint64_t number;

	if (known || !str_to_u64(str_of(text), UINT32_MAX - 1, &number))
		return known;
	*uid = (uid_t)number;
	return getpwuid(*uid);
}

/* NULL: nobody lent us his terminal. */
static const char *caller(void)
{
	static const char *const variables[] = { "SUDO_UID", "DOAS_USER", "PKEXEC_UID" };

	for (size_t i = 0; i < ARRAY_SIZE(variables) && getuid() == 0; i++) {
		const char *value = getenv(variables[i]);

		if (value && *value)
			return value;
	}
	return NULL;
}

int run_user_find(struct run_user *u, const char *wanted, struct err *e)
{
	const char *home = getenv("HOME");
	uid_t uid = (uid_t)-1;
	struct passwd *known;

	*u = (struct run_user){ .uid = geteuid(), .gid = getegid() };
	if (!wanted)
		wanted = caller();
	known = wanted ? find_passwd(wanted, &uid) : getpwuid(u->uid);
	if (wanted && !known && uid == (uid_t)-1)
		return err_set(e, -ENOENT, "There is no user %s.", wanted);
	if (wanted) {
		u->uid = known ? known->pw_uid : uid;
		u->gid = known ? known->pw_gid : (gid_t)uid;
	}
	u->changes = u->uid != geteuid();
	if (u->changes && geteuid() != 0)
		return err_set(e, -EPERM, "Only root runs a command as another user: use sudo.");
	snprintf(u->name, sizeof(u->name), "%s", known ? known->pw_name : "");
	snprintf(u->home, sizeof(u->home), "%s", !u->changes && home ? home : known ? known->pw_dir : "/");
	snprintf(u->shell, sizeof(u->shell), "%s", known && known->pw_shell[0] ? known->pw_shell : "/bin/sh");
	return 0;
}

/* As sudo would set it for him; his session's folder, too, without which desktop programs do not start. */
static void set_environment(const struct run_user *u)
{
	static const char *const gone[] = { "SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND", "DOAS_USER",
					    "PKEXEC_UID", "MAIL", "XDG_RUNTIME_DIR" };
	char runtime[64];

	for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
		unsetenv(gone[i]);
	setenv("HOME", u->home, 1);
	setenv("SHELL", u->shell, 1);
	if (u->name[0]) {
		setenv("USER", u->name, 1);
		setenv("LOGNAME", u->name, 1);
	}
	snprintf(runtime, sizeof(runtime), "/run/user/%u", (unsigned int)u->uid);
	if (access(runtime, F_OK) == 0)
		setenv("XDG_RUNTIME_DIR", runtime, 1);
}

int run_user_become(const struct run_user *u, struct err *e)
{
	int ret;

	if (!u->changes)
		return 0;
	set_environment(u);
	ret = u->name[0] ? initgroups(u->name, u->gid) : setgroups(1, &u->gid);
	if (ret < 0 || setresgid(u->gid, u->gid, u->gid) < 0 || setresuid(u->uid, u->uid, u->uid) < 0)
		return err_set(e, -errno, "cannot become the user %s: %m", u->name[0] ? u->name : "of that number");
	return 0;
}
