/* SPDX-License-Identifier: MIT */
/* Files of passwords are read here, because what checks them does no I/O. */
#include "app/access.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <unistd.h>

#include "base/mem.h"
#include "crypto/proxy_auth.h"
#include "master/flow_input.h"

#define HTPASSWD_BYTES_MAX (1u << 20)

static int read_all(int fd, struct strbuf *out)
{
	char part[4096];
	ssize_t n;

	while ((n = read(fd, part, sizeof(part))) > 0) {
		strbuf_add(out, part, (size_t)n);
		if (out->failed)
			return -ENOMEM;
		if (out->len > HTPASSWD_BYTES_MAX)
			return -EFBIG;
	}
	return n < 0 ? -errno : 0;
}

static int read_htpasswd(const char *spec, struct strbuf *out, struct err *e)
{
	char *path = path_expand(spec + 1);
	int fd, ret;

	if (!path)
		return err_set(e, -ENOMEM, "out of memory");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ret = fd < 0 ? -errno : read_all(fd, out);
	if (ret < 0)
		err_set(e, ret, "Could not open htpasswd file: %s (%s)", path, strerror(-ret));
	if (fd >= 0)
		close(fd);
	mem_free(path);
	return ret;
}

static int load_proxyauth(struct options *o, struct proxy_auth **auth, const char *spec, struct err *e)
{
	struct strbuf text = { 0 };
	int ret = spec[0] == '@' ? read_htpasswd(spec, &text, e) : 0;

	if (ret == 0)
		ret = proxy_auth_new(auth, str_of(spec), (struct str){ text.ptr, text.len }, e);
	if (ret == 0)
		o->proxyauth = *auth;
	if (text.ptr)
		OPENSSL_cleanse(text.ptr, text.len);
	strbuf_fini(&text);
	return ret;
}

int access_load(struct options *o, struct proxy_auth **auth, const struct settings *s, struct err *e)
{
	const char *proxyauth = settings_text(s, "proxyauth"), *upstream = settings_text(s, "upstream_auth");
	const char *from = settings_text(s, "connect_addr");

	if (upstream && (upstream[0] == ':' || !strchr(upstream, ':')))
		return err_set(e, -EINVAL, "Invalid upstream auth specification: it must be user:password");
	if (from && from[0] && !addr_parse(&o->connect_addr, str_of(from)))
		return err_set(e, -EINVAL, "Invalid value for connect_addr: %.100s is no IP address", from);
	return proxyauth && proxyauth[0] ? load_proxyauth(o, auth, proxyauth, e) : 0;
}
