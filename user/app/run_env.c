/* SPDX-License-Identifier: MIT */
/* A table of variables, and Java, whose options are words of one. */
#include "app/run_env.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "crypto/java_store.h"

#define JAVA_OPTIONS "JAVA_TOOL_OPTIONS"
#define JAVA_STORE "-Djavax.net.ssl.trustStore="

static const struct {
	const char *name;
	bool adds;                   /* to what the program trusts by itself; else it takes its place */
} variables[] = {
	{ "SSL_CERT_FILE", false },                     /* OpenSSL, Go, Ruby, Rust's native-certs */
	{ "CURL_CA_BUNDLE", false },
	{ "REQUESTS_CA_BUNDLE", false },                /* Python's requests has a bundle of its own */
	{ "PIP_CERT", false },
	{ "HTTPLIB2_CA_CERTS", false },
	{ "GIT_SSL_CAINFO", false },
	{ "AWS_CA_BUNDLE", false },
	{ "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", false },
	{ "CARGO_HTTP_CAINFO", false },
	{ "COMPOSER_CAFILE", false },
	{ "PERL_LWP_SSL_CA_FILE", false },
	{ "NIX_SSL_CERT_FILE", false },
	{ "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", false },
	{ "NODE_EXTRA_CA_CERTS", true },
	{ "DENO_CERT", true },
};

static const char *value_of(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static const char *value_for(struct client_trust *t, const char *name, bool adds, struct err *e)
{
	const char *before = value_of(name);

	if (before)
		return client_trust_bundle(t, before, e);
	/* Who names a folder has chosen whom to trust; OpenSSL reads the file besides. */
	if (adds || (strcmp(name, "SSL_CERT_FILE") == 0 && value_of("SSL_CERT_DIR")))
		return client_trust_alone(t);
	return client_trust_bundle(t, NULL, e);
}

/* --- Java ------------------------------------------------------------------------------------------------------- */

static void add_java(const char *text)
{
	const char *before = value_of(JAVA_OPTIONS);
	struct strbuf all = { 0 };

	strbuf_addf(&all, "%s%s%s", before ? before : "", before ? " " : "", text);
	if (!all.failed)
		setenv(JAVA_OPTIONS, all.ptr, 1);
	strbuf_fini(&all);
}

/* The user's own store, named among other options: a merged copy takes its place in the text. */
static void replace_java(struct client_trust *t, const char *options, const char *at)
{
	const char *path = at + strlen(JAVA_STORE), *end = path + strcspn(path, " \t"), *copy;
	char *original = mem_strndup(path, (size_t)(end - path));
	struct strbuf all = { 0 };
	struct err e = { 0 };

	copy = original ? client_trust_java(t, original, &e) : NULL;
	if (copy) {
		strbuf_addf(&all, "%.*s%s%s", (int)(path - options), options, copy, end);
		if (!all.failed)
			setenv(JAVA_OPTIONS, all.ptr, 1);
	} else {
		log_line(LOG_WARN, "run", "Java will not trust the CA: %s", e.text);
	}
	strbuf_fini(&all);
	mem_free(original);
}

static void trust_in_java(struct client_trust *t, bool covered)
{
	const char *options = value_of(JAVA_OPTIONS), *at = options ? strstr(options, JAVA_STORE) : NULL, *copy;
	struct strbuf text = { 0 };
	struct err e = { 0 };

	if (at) {
		replace_java(t, options, at);
		return;
	}
	copy = covered ? NULL : client_trust_java(t, NULL, &e);
	if (copy) {
		strbuf_addf(&text, JAVA_STORE "%s -Djavax.net.ssl.trustStorePassword=" JAVA_STORE_PASSWORD, copy);
		if (!text.failed)
			add_java(text.ptr);
	} else if (e.code) {
		log_line(LOG_WARN, "run", "Java will not trust the CA: %s", e.text);
	}
	strbuf_fini(&text);
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

void run_env_trust(struct client_trust *t, bool covered)
{
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		struct err e = { 0 };
		const char *value = value_for(t, variables[i].name, variables[i].adds, &e);

		if (value)
			setenv(variables[i].name, value, 1);
		else
			log_line(LOG_WARN, "run", "The variable %s is left as it is: %s", variables[i].name, e.text);
	}
	trust_in_java(t, covered);
}

void run_env_proxy(uint16_t port, bool loopback)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY",
					     "ALL_PROXY" };
	static const char *const except[] = { "no_proxy", "NO_PROXY" };
	const char *own = value_of("https_proxy") ? value_of("https_proxy") : value_of("HTTPS_PROXY");
	struct strbuf java = { 0 };
	char url[64];

	if (own)
		log_line(LOG_WARN, "run", "HTTPS_PROXY was set: the command's connections go without that proxy now.");
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		setenv(names[i], url, 1);
	for (size_t i = 0; i < ARRAY_SIZE(except); i++) {
		if (loopback)
			setenv(except[i], "", 1);
		else
			setenv(except[i], "localhost,127.0.0.1,::1", 0);
	}
	setenv("NODE_USE_ENV_PROXY", "1", 0);
	strbuf_addf(&java, "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=%u -Dhttps.proxyHost=127.0.0.1 "
		    "-Dhttps.proxyPort=%u", port, port);
	if (loopback)
		strbuf_addf(&java, " -Dhttp.nonProxyHosts=");
	if (!java.failed)
		add_java(java.ptr);
	strbuf_fini(&java);
}
