/* SPDX-License-Identifier: MIT */
/* Any bytes as a flow file, printed in every detail: no control character but the line's end may reach a terminal. */
#include "flow/flow_file.h"
#include "views/flow_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct strbuf *text)
{
	BUG_ON(text->failed);
	for (size_t i = 0; i < text->len; i++) {
		uint8_t c = (uint8_t)text->ptr[i];

		BUG_ON((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f);
		BUG_ON(c == 0xc2 && (uint8_t)text->ptr[i + 1] < 0xa0);
	}
	strbuf_fini(text);
}

static void print(const struct flow *f, const struct text_look *look)
{
	struct strbuf text = { 0 };

	switch (f->type) {
	case FLOW_HTTP:
		flow_text_http(&text, f, look);
		flow_text_websocket(&text, f, look);
		break;
	case FLOW_TCP:
	case FLOW_UDP:
		flow_text_error(&text, f, look);
		break;
	case FLOW_DNS:
		flow_text_other(&text, f, look);
		break;
	}
	for (uint32_t i = 0; f->type == FLOW_TCP && i < f->tcp.count; i++)
		flow_text_message(&text, f->type, f->client, f->server, &f->tcp.messages[i], look);
	check(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str item = { (const char *)data, size };
	struct flow *f;
	struct err e;

	if (flow_file_read(item, &f, &e) < 0)
		return 0;
	for (int detail = 1; detail <= 4; detail++)
		print(f, &(struct text_look){ .detail = detail, .showhost = detail % 2, .columns = 80,
					      .lines_max = 5 });
	flow_free(f);
	return 0;
}
