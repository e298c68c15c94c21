/* SPDX-License-Identifier: MIT */
/*
 * Flags are a table: each sets one option, or is one of the few with a meaning of their own. The rules are those of
 * mitmdump's parser where people rely on them: --flag=value, unambiguous prefixes, bundled short flags; --set comes
 * first, flags win over it, -q and -v over both.
 */
#include "app/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <openssl/crypto.h>
#include <sys/utsname.h>

#include "base/mem.h"

enum flag_kind {
	FLAG_VALUE,                      /* sets the option to its argument */
	FLAG_TRUE, FLAG_FALSE,
	FLAG_LIST,                       /* adds its argument to a sequence, which takes the option's place */
	FLAG_SET, FLAG_INTERCEPT, FLAG_INTERFACE, FLAG_CGROUP, FLAG_QUIET, FLAG_VERBOSE,
	FLAG_HELP, FLAG_VERSION, FLAG_OPTIONS, FLAG_JSON, FLAG_USER, FLAG_UNDO,
};

struct flag {
	char letter;                     /* 0: none */
	const char *name;
	enum flag_kind kind;
	const char *option;
};

static const struct flag flags[] = {
	{ 'h', "help", FLAG_HELP, NULL },
	{ 0, "version", FLAG_VERSION, NULL },
	{ 0, "options", FLAG_OPTIONS, NULL },
	{ 0, "json", FLAG_JSON, NULL },
	{ 0, "user", FLAG_USER, NULL },
	{ 0, "undo", FLAG_UNDO, NULL },
	{ 0, "set", FLAG_SET, NULL },
	{ 'q', "quiet", FLAG_QUIET, NULL },
	{ 'v', "verbose", FLAG_VERBOSE, NULL },
	{ 0, "intercept", FLAG_INTERCEPT, NULL },
	{ 0, "interface", FLAG_INTERFACE, NULL },
	{ 0, "cgroup", FLAG_CGROUP, "cgroup" },
	{ 0, "reset-existing", FLAG_TRUE, "reset_existing" },
	{ 0, "fail-closed", FLAG_TRUE, "fail_closed" },
	{ 'm', "mode", FLAG_LIST, "mode" },
	{ 'p', "listen-port", FLAG_VALUE, "listen_port" },
	{ 0, "listen-host", FLAG_VALUE, "listen_host" },
	{ 'n', "no-server", FLAG_FALSE, "server" },
	{ 0, "server", FLAG_TRUE, "server" },
	{ 'w', "save-stream-file", FLAG_VALUE, "save_stream_file" },
	{ 'r', "rfile", FLAG_VALUE, "rfile" },
	{ 0, "flow-detail", FLAG_VALUE, "flow_detail" },
	{ 0, "showhost", FLAG_TRUE, "showhost" },
	{ 0, "no-showhost", FLAG_FALSE, "showhost" },
	{ 'k', "ssl-insecure", FLAG_TRUE, "ssl_insecure" },
	{ 0, "no-ssl-insecure", FLAG_FALSE, "ssl_insecure" },
	{ 0, "rawtcp", FLAG_TRUE, "rawtcp" },
	{ 0, "no-rawtcp", FLAG_FALSE, "rawtcp" },
	{ 0, "http2", FLAG_TRUE, "http2" },
	{ 0, "no-http2", FLAG_FALSE, "http2" },
	{ 0, "ignore-hosts", FLAG_LIST, "ignore_hosts" },
	{ 0, "allow-hosts", FLAG_LIST, "allow_hosts" },
	{ 0, "tcp-hosts", FLAG_LIST, "tcp_hosts" },
	{ 0, "udp-hosts", FLAG_LIST, "udp_hosts" },
	{ 0, "udp", FLAG_VALUE, "udp" },
	{ 0, "block-quic", FLAG_TRUE, "block_quic" },
	{ 0, "show-ignored-hosts", FLAG_TRUE, "show_ignored_hosts" },
	{ 0, "no-show-ignored-hosts", FLAG_FALSE, "show_ignored_hosts" },
	{ 0, "certs", FLAG_LIST, "certs" },
	{ 0, "cert-passphrase", FLAG_VALUE, "cert_passphrase" },
	{ 0, "proxyauth", FLAG_VALUE, "proxyauth" },
	{ 0, "upstream-auth", FLAG_VALUE, "upstream_auth" },
	{ 0, "confdir", FLAG_VALUE, "confdir" },
	{ 0, "hook-trace", FLAG_VALUE, "hook_trace" },
	{ 0, "hook-control", FLAG_VALUE, "hook_control" },
	{ 0, "io", FLAG_VALUE, "io" },
	{ 0, "workers", FLAG_VALUE, "workers" },
};

/* One flag as given. */
struct given {
	const struct flag *flag;
	const char *value;
};

struct parser {
	struct given *given;
	size_t count;
	const char **sets;
	size_t set_count;
	bool quiet, verbose;
};

static bool takes_value(const struct flag *f)
{
	return f->kind == FLAG_VALUE || f->kind == FLAG_LIST || f->kind == FLAG_SET || f->kind == FLAG_INTERCEPT ||
	       f->kind == FLAG_INTERFACE || f->kind == FLAG_CGROUP || f->kind == FLAG_USER;
}

static int find_long(struct str name, const struct flag **out, struct err *e)
{
	const struct flag *found = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		if (!str_starts(str_of(flags[i].name), name) || name.len == 0)
			continue;
		if (flags[i].name[name.len] == 0) {
			*out = &flags[i];
			return 0;
		}
		if (found)
			return err_set(e, -EINVAL, "ambiguous option: --%.*s could match --%s, --%s", (int)name.len,
				       name.ptr, found->name, flags[i].name);
		found = &flags[i];
	}
	if (!found && name.len && memchr(name.ptr, '_', name.len))
		return err_set(e, -EINVAL, "--%.*s uses underscores, please use hyphens", (int)name.len, name.ptr);
	if (!found)
		return err_set(e, -EINVAL, "unrecognized argument: --%.*s (--help lists them; other options are set "
			       "with --set name=value, --options lists those)", (int)name.len, name.ptr);
	*out = found;
	return 0;
}

static const struct flag *find_letter(char letter)
{
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (letter && flags[i].letter == letter)
			return &flags[i];
	return NULL;
}

static void note(struct parser *p, struct cli *cli, const struct flag *f, const char *value)
{
	p->quiet |= f->kind == FLAG_QUIET;
	p->verbose |= f->kind == FLAG_VERBOSE;
	cli->json |= f->kind == FLAG_JSON;
	cli->undo |= f->kind == FLAG_UNDO;
	if (f->kind == FLAG_USER)
		cli->user = value;
	else if (f->kind == FLAG_SET)
		p->sets[p->set_count++] = value;
	else if (f->kind == FLAG_HELP)
		cli->action = CLI_HELP;
	else if (f->kind == FLAG_VERSION && cli->action != CLI_HELP)
		cli->action = CLI_VERSION;
	else if (f->kind == FLAG_OPTIONS && (cli->action == CLI_RUN || cli->action == CLI_COMMAND))
		cli->action = CLI_OPTIONS;
	else
		p->given[p->count++] = (struct given){ f, value };
}

/* --name, --name=value, --name value. Returns how many words it took, or -errno. */
static int parse_long(struct parser *p, struct cli *cli, char **argv, int left, struct err *e)
{
	const char *word = argv[0] + 2, *equals = strchr(word, '=');
	struct str name = { word, equals ? (size_t)(equals - word) : strlen(word) };
	const struct flag *f = NULL;
	int ret = find_long(name, &f, e);

	if (ret < 0)
		return ret;
	if (!takes_value(f) && equals)
		return err_set(e, -EINVAL, "argument --%s takes no value", f->name);
	if (takes_value(f) && !equals && left < 2)
		return err_set(e, -EINVAL, "argument --%s: expected one argument", f->name);
	note(p, cli, f, equals ? equals + 1 : argv[1]);
	return takes_value(f) && !equals ? 2 : 1;
}

/* -n, -nr file, -p8080, -p=8080. */
static int parse_short(struct parser *p, struct cli *cli, char **argv, int left, struct err *e)
{
	for (const char *at = argv[0] + 1; *at; at++) {
		const struct flag *f = find_letter(*at);

		if (!f)
			return err_set(e, -EINVAL, "unrecognized argument: -%c", *at);
		if (!takes_value(f)) {
			note(p, cli, f, NULL);
			continue;
		}
		if (at[1]) {
			note(p, cli, f, at[1] == '=' ? at + 2 : at + 1);
			return 1;
		}
		if (left < 2)
			return err_set(e, -EINVAL, "argument -%c/--%s: expected one argument", f->letter, f->name);
		note(p, cli, f, argv[1]);
		return 2;
	}
	return 1;
}

static int parse_pid(struct cli *cli, const char *text, struct err *e)
{
	uint64_t pid;

	if (!text || !str_to_u64(str_of(text), INT32_MAX, &pid) || !pid)
		return err_set(e, -EINVAL, "argument --pid: expected a process id");
	cli->pid = (long)pid;
	return 0;
}

/* mitm-bpf set|get|ps [--pid PID] WORD... The words stay where they are in argv, without the flag. */
static int parse_ask(struct cli *cli, int argc, char **argv, struct err *e)
{
	bool ps = strcmp(argv[1], "ps") == 0;
	int kept = 2;

	cli->action = ps ? CLI_PS : CLI_ASK;
	for (int i = 2; i < argc; i++) {
		bool long_form = strncmp(argv[i], "--pid=", 6) == 0;
		int ret;

		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
			cli->action = CLI_HELP;
			return 0;
		}
		if (ps && strcmp(argv[i], "--watch") == 0) {
			cli->watch = true;
			continue;
		}
		if (strcmp(argv[i], "--pid") != 0 && !long_form) {
			if (argv[i][0] == '-' || ps)
				return err_set(e, -EINVAL, "unrecognized argument: %s (mitm-bpf %s knows --pid%s)",
					       argv[i], argv[1], ps ? " and --watch" : "");
			argv[kept++] = argv[i];
			continue;
		}
		ret = parse_pid(cli, long_form ? argv[i] + 6 : argv[++i], e);
		if (ret < 0)
			return ret;
	}
	if (kept == 2 && strcmp(argv[1], "set") == 0)
		return err_set(e, -EINVAL, "set: expected NAME=VALUE, for example mode=regular@8080");
	cli->words = (const char *const *)argv + 1;
	cli->word_count = (size_t)kept - 1;
	return 0;
}

/* What only doctor takes: a target, and --pid. Returns how many words it was, 0: it is an option, or -errno. */
static int parse_doctor(struct cli *cli, char **argv, struct err *e)
{
	int ret;

	if (strcmp(argv[0], "--pid") == 0) {
		ret = parse_pid(cli, argv[1], e);
		return ret < 0 ? ret : 2;
	}
	if (strncmp(argv[0], "--pid=", 6) == 0) {
		ret = parse_pid(cli, argv[0] + 6, e);
		return ret < 0 ? ret : 1;
	}
	if (argv[0][0] == '-' || cli->target)
		return 0;
	cli->target = argv[0];
	return 1;
}

/* Whom trust is for. The same returns. */
static int parse_trust(struct cli *cli, char **argv, struct err *e)
{
	uint64_t pid;

	if (argv[0][0] == '-' || cli->pid || cli->container)
		return 0;
	if (str_starts(str_of(argv[0]), STR("container:")) && argv[0][10])
		cli->container = argv[0] + 10;
	else if (str_to_u64(str_of(argv[0]), INT32_MAX, &pid) && pid)
		cli->pid = (long)pid;
	else
		return err_set(e, -EINVAL, "trust: expected a process id or container:NAME, not %s",
			       argv[0]);
	return 1;
}

static void parse_rules(struct cli *cli, int argc, char **argv)
{
	cli->action = CLI_RULES;
	cli->words = (const char *const *)argv + 2;
	cli->word_count = (size_t)argc - 2;
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
			cli->action = CLI_HELP;
}

/* One word and what belongs to it. Returns how many words it was, or -errno. */
static int parse_word(struct parser *p, struct cli *cli, char **argv, int count, struct err *e)
{
	int took = 0;

	if (cli->action == CLI_TRUST)
		took = parse_trust(cli, argv, e);
	if (cli->action == CLI_DOCTOR)
		took = parse_doctor(cli, argv, e);
	if (took)
		return took;
	if (argv[0][0] != '-' || !argv[0][1])
		return err_set(e, -ENOTSUP, "unexpected argument: %s (filter expressions are not implemented yet)",
			       argv[0]);
	return argv[0][1] == '-' ? parse_long(p, cli, argv, count, e) : parse_short(p, cli, argv, count, e);
}

static int parse_words(struct parser *p, struct cli *cli, int argc, char **argv, struct err *e)
{
	static const struct {
		const char *word;
		enum cli_action action;
	} verbs[] = {
		{ "doctor", CLI_DOCTOR }, { "release", CLI_RELEASE }, { "run", CLI_COMMAND }, { "trust", CLI_TRUST },
		{ "dump", CLI_RUN },
	};
	const char *verb = argc > 1 ? argv[1] : "";
	int i = 1;

	if (strcmp(verb, "set") == 0 || strcmp(verb, "get") == 0 || strcmp(verb, "ps") == 0)
		return parse_ask(cli, argc, argv, e);
	if (strcmp(verb, "rules") == 0) {
		parse_rules(cli, argc, argv);
		return 0;
	}
	for (size_t v = 0; v < ARRAY_SIZE(verbs) && i == 1; v++) {
		if (strcmp(verb, verbs[v].word) != 0)
			continue;
		cli->action = verbs[v].action;
		i++;
	}
	while (i < argc) {
		bool dashes = strcmp(argv[i], "--") == 0;
		int took;

		if (cli->action == CLI_COMMAND && (dashes || argv[i][0] != '-' || !argv[i][1])) {
			cli->command = argv + i + dashes;
			break;
		}
		took = parse_word(p, cli, argv + i, argc - i, e);
		if (took < 0)
			return took;
		i += took;
	}
	return 0;
}

/* --intercept SPEC and --interface IF are modes; --cgroup alone means everything in it. Each replaces the default. */
static int apply_modes(const struct parser *p, struct settings *s, struct err *e)
{
	bool named = false, intercept = false, cgroup = false, forwarded = false;
	int ret = 0;

	for (size_t i = 0; i < p->count; i++) {
		intercept |= p->given[i].flag->kind == FLAG_INTERCEPT;
		forwarded |= p->given[i].flag->kind == FLAG_INTERFACE;
		cgroup |= p->given[i].flag->kind == FLAG_CGROUP;
		named |= p->given[i].flag->option && strcmp(p->given[i].flag->option, "mode") == 0;
	}
	if (!named && !intercept && !cgroup && !forwarded)
		return 0;
	ret = settings_set(s, (const char *const[]){ "mode" }, 1, e);
	for (size_t i = 0; i < p->count && ret == 0; i++) {
		const struct given *g = &p->given[i];
		struct strbuf mode = { 0 };

		if (g->flag->kind == FLAG_INTERCEPT)
			strbuf_addf(&mode, "local:%s", g->value);
		else if (g->flag->kind == FLAG_INTERFACE)
			strbuf_addf(&mode, "tc:%s", g->value);
		else if (g->flag->kind == FLAG_LIST && strcmp(g->flag->option, "mode") == 0)
			strbuf_addf(&mode, "%s", g->value);
		if (mode.failed)
			ret = err_set(e, -ENOMEM, "out of memory");
		else if (mode.ptr)
			ret = settings_add(s, "mode", mode.ptr, e);
		strbuf_fini(&mode);
	}
	if (ret == 0 && !named && !intercept && cgroup)
		ret = settings_add(s, "mode", "local", e);
	return ret;
}

static int apply_list(const struct parser *p, struct settings *s, const char *option, struct err *e)
{
	bool first = true;
	int ret = 0;

	for (size_t i = 0; i < p->count && ret == 0; i++) {
		if (p->given[i].flag->kind != FLAG_LIST || strcmp(p->given[i].flag->option, option) != 0)
			continue;
		if (first)
			ret = settings_set(s, (const char *const[]){ option }, 1, e);
		first = false;
		if (ret == 0)
			ret = settings_add(s, option, p->given[i].value, e);
	}
	return ret;
}

static int apply_flag(const struct parser *p, size_t i, struct settings *s, struct err *e)
{
	const struct given *g = &p->given[i];

	if (g->flag->kind == FLAG_VALUE || g->flag->kind == FLAG_CGROUP)
		return settings_put(s, g->flag->option, g->value, e);
	if (g->flag->kind != FLAG_TRUE && g->flag->kind != FLAG_FALSE)
		return 0;
	for (size_t k = 0; k < i; k++)
		if (p->given[k].flag->option && p->given[k].flag->kind != g->flag->kind &&
		    strcmp(p->given[k].flag->option, g->flag->option) == 0)
			return err_set(e, -EINVAL, "argument --%s: not allowed with argument --%s", g->flag->name,
				       p->given[k].flag->name);
	return settings_put(s, g->flag->option, g->flag->kind == FLAG_TRUE ? "true" : "false", e);
}

/* A command's terminal is its own: there it is said what goes wrong, and flows are shown only if they go nowhere
 * else. */
static int apply_quiet(const struct parser *p, struct settings *s, struct err *e)
{
	bool saved = false;
	int ret = settings_put(s, "termlog_verbosity", "warn", e);

	for (size_t i = 0; i < p->count; i++) {
		const struct flag *f = p->given[i].flag;

		saved |= f->option && strcmp(f->option, "save_stream_file") == 0;
		if (f->kind == FLAG_INTERCEPT || f->kind == FLAG_INTERFACE ||
		    (f->option && (strcmp(f->option, "mode") == 0 ||
								 strcmp(f->option, "rfile") == 0 ||
								 strcmp(f->option, "server") == 0)))
			return err_set(e, -EINVAL, "`mitm-bpf run` decides itself how its command is intercepted: "
				       "leave --%s away", f->name);
	}
	for (size_t i = 0; i < p->set_count; i++)
		saved |= str_starts(str_of(p->sets[i]), STR("save_stream_file="));
	return ret == 0 && saved ? settings_put(s, "flow_detail", "0", e) : ret;
}

static int apply(const struct parser *p, enum cli_action action, struct settings *s, struct err *e)
{
	static const char *const lists[] = { "certs", "ignore_hosts", "allow_hosts", "tcp_hosts", "udp_hosts" };
	int ret = settings_set(s, p->sets, p->set_count, e);

	for (size_t i = 0; i < p->count && ret == 0; i++)
		ret = apply_flag(p, i, s, e);
	for (size_t i = 0; i < ARRAY_SIZE(lists) && ret == 0; i++)
		ret = apply_list(p, s, lists[i], e);
	/* A command's mode is made for it; --cgroup only says where its group is to be. */
	if (ret == 0 && action != CLI_COMMAND)
		ret = apply_modes(p, s, e);
	if (ret == 0 && p->quiet)
		ret = settings_set(s, (const char *const[]){ "termlog_verbosity=error", "flow_detail=0" }, 2, e);
	if (ret == 0 && p->verbose)
		ret = settings_set(s, (const char *const[]){ "termlog_verbosity=debug", "flow_detail=2" }, 2, e);
	return ret;
}

int cli_parse(struct cli *cli, int argc, char **argv, struct err *e)
{
	struct parser p = { 0 };
	size_t most = 1;
	int ret;

	/* Bundled letters are flags of their own. */
	for (int i = 1; i < argc; i++)
		most += strlen(argv[i]) + 1;
	*cli = (struct cli){ .settings = settings_new() };
	p.given = mem_alloc(most * sizeof(*p.given));
	p.sets = mem_alloc(most * sizeof(*p.sets));
	if (!cli->settings || !p.given || !p.sets)
		ret = err_set(e, -ENOMEM, "out of memory");
	else
		ret = parse_words(&p, cli, argc, argv, e);
	if (ret == 0 && cli->json && cli->action != CLI_DOCTOR)
		ret = err_set(e, -EINVAL, "--json belongs to `mitm-bpf doctor`");
	if (ret == 0 && cli->user && cli->action != CLI_COMMAND && cli->action != CLI_HELP)
		ret = err_set(e, -EINVAL, "--user belongs to `mitm-bpf run`");
	if (ret == 0 && cli->undo && cli->action != CLI_TRUST && cli->action != CLI_HELP)
		ret = err_set(e, -EINVAL, "--undo belongs to `mitm-bpf trust`");
	if (ret == 0 && cli->action == CLI_TRUST && !cli->pid == !cli->container)
		ret = err_set(e, -EINVAL, "trust: expected a process id or container:NAME");
	if (ret == 0 && cli->action == CLI_COMMAND && (!cli->command || !cli->command[0]))
		ret = err_set(e, -EINVAL, "run: expected a command, for example mitm-bpf run -- "
			      "curl https://example.com");
	if (ret == 0 && cli->action == CLI_COMMAND)
		ret = apply_quiet(&p, cli->settings, e);
	if (ret == 0 && cli->action != CLI_HELP && cli->action != CLI_VERSION)
		ret = apply(&p, cli->action, cli->settings, e);
	mem_free(p.given);
	mem_free(p.sets);
	if (ret < 0) {
		settings_free(cli->settings);
		cli->settings = NULL;
	}
	return ret;
}

static const char help[] =
"usage: mitm-bpf [OPTIONS]           intercept and print traffic\n"
"       mitm-bpf run [OPTIONS] [--] COMMAND...   run a command, and intercept it and all that it starts\n"
"       mitm-bpf trust PID|container:NAME [--undo]   let what runs in a container trust the CA\n"
"       mitm-bpf doctor [--json]     what this machine can do, and what is missing\n"
"       mitm-bpf doctor PID|container:NAME   why it is seen, or not; --intercept SPEC: would it be\n"
"       mitm-bpf set [--pid PID] NAME=VALUE...   change one that runs: mode=..., mode+=socks5@1080,\n"
"                                    mode-=regular, mode=local:firefox, server=false\n"
"       mitm-bpf get [--pid PID] [NAME...]       its options\n"
"       mitm-bpf release             let those connect again whom a killed --fail-closed run still keeps off\n"
"       mitm-bpf ps [--pid PID] [--watch]        whom it takes, whom not, and by which rule\n"
"       mitm-bpf rules [--nft|--iptables] [--tproxy|--redirect] [--interface IF] [--port 80,443] [-p N]\n"
"                      [--undo]      prints firewall rules for transparent mode, where BPF cannot be used\n"
"\n"
"  sudo mitm-bpf run -- curl https://example.com  this command, which trusts the CA by itself\n"
"  sudo mitm-bpf --intercept curl                 all TCP of every process named like curl\n"
"  sudo mitm-bpf --intercept '!sshd' -w all.mitm  everything but sshd, into a file\n"
"  mitm-bpf -p 8080                               an explicit proxy; needs no privilege\n"
"  mitm-bpf -nr all.mitm --flow-detail 3          print a flow file, ours or mitmproxy's\n"
"\n"
"What to intercept\n"
"  --intercept SPEC       processes by name or pid, with their children: curl,1234,!5678\n"
"                         (the same as --mode local:SPEC; root). Or, also with ! before:\n"
"    user:NAME|UID          of that user            exe:/PATH    of that executable\n"
"    cgroup:PATH            in or below that group  comm:NAME    of that whole name\n"
"    unit:NAME              of that systemd unit    tree:PID     and all that descend from it\n"
"    container:NAME|ID      of podman, docker, containerd or CRI-O\n"
"    netns:NAME|PATH|[INODE]  in that network namespace\n"
"  --interface IF         what is routed in at that interface: of containers, pods, other machines;\n"
"                         IF,10.1.0.0/16,!10.1.0.5 narrows it to clients, veth* are many (--mode tc:IF; root)\n"
"  --cgroup PATH          only processes in this cgroup v2, named from its mount\n"
"  --fail-closed          refuse what cannot be taken, also when mitm-bpf is killed (see release)\n"
"  --udp all|none|PORTS   their UDP to these ports (53,443); --block-quic: none to 443, so that they use TCP\n"
"  --reset-existing       break their open connections, so that they dial again, through us\n"
"  -m, --mode MODE        regular, local[:SPEC], tc:IF, transparent, socks5, upstream:URL or\n"
"                         reverse:URL, with @[host:]port; can be repeated\n"
"  -p, --listen-port N    port of modes that name none (8080)\n"
"      --listen-host HOST address of modes that name none (127.0.0.1; empty: every interface)\n"
"      --proxyauth SPEC   who may use it: user:password, any, @HTPASSWD\n"
"      --upstream-auth USER:PASSWORD   for the proxy or server behind\n"
"  -n, --no-server        no proxy at all: only read and print a file\n"
"\n"
"A command of our own (run)\n"
"      --user NAME        who it runs as; else who called sudo, with the privilege left to mitm-bpf\n"
"  Its tree, and nothing else, is intercepted; terminal, signals and exit status are its own. Flows go\n"
"  to stderr, or to -w FILE and nowhere else unless --flow-detail is given. Without root: by HTTPS_PROXY.\n"
"\n"
"Flows\n"
"  -w, --save-stream-file [+]FILE   write flows as they end; + appends; strftime codes\n"
"                                   start new files; mitmproxy reads them\n"
"  -r, --rfile FILE       read a flow file, print it, and end; - is standard input\n"
"      --flow-detail N    0 nothing, 1 lines, 2 headers, 3 bodies, 4 whole bodies (1)\n"
"      --showhost         show the Host header's name in URLs\n"
"\n"
"What not to look at (regular expressions for host:port; can be repeated)\n"
"      --ignore-hosts RE  is relayed untouched; --allow-hosts RE: everything else is\n"
"      --tcp-hosts RE, --udp-hosts RE   is shown as raw TCP or UDP\n"
"      --show-ignored-hosts   show that there was a connection\n"
"\n"
"TLS\n"
"  -k, --ssl-insecure     do not verify servers' certificates\n"
"      --certs [NAME=]PEM own certificates instead of minted ones\n"
"      --cert-passphrase PASS   of their keys; others can see it in the list of processes\n"
"      --confdir DIR      where the CA is (~/.mitmproxy, shared with mitmproxy)\n"
"\n"
"Running\n"
"  -q, --quiet            errors only\n"
"  -v, --verbose          debug lines, and flows with headers\n"
"      --io BACKEND       auto, uring or epoll\n"
"      --workers N        threads (one per core)\n"
"      --set NAME=VALUE   any option; --options lists them\n"
"      --options, --version, -h, --help\n"
"\n"
"Ctrl-C lets open connections finish for some seconds; once more ends them.\n"
"Environment: NO_COLOR, COLUMNS, SSLKEYLOGFILE (TLS keys are appended there, for Wireshark).\n";

void cli_help(struct strbuf *out)
{
	strbuf_add_str(out, str_of(help));
}

void cli_version(struct strbuf *out)
{
	struct utsname host;

	uname(&host);
	strbuf_addf(out, "mitm-bpf: %s\nTLS:      %s\nPlatform: %s %s %s\n", MITM_VERSION,
		    OpenSSL_version(OPENSSL_VERSION), host.sysname, host.release, host.machine);
}

void cli_options(const struct settings *s, struct strbuf *out)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *setting = &settings_table[i];

		strbuf_addf(out, "# %s\n# Type: %s", setting->help, settings_type_name(setting->type));
		for (size_t k = 0; setting->choices && setting->choices[k]; k++)
			strbuf_addf(out, "%s%s", k ? ", " : "; one of ", setting->choices[k]);
		strbuf_addf(out, "\n%s: ", setting->name);
		settings_write(s, setting->name, out);
		strbuf_add_str(out, STR("\n\n"));
	}
}
