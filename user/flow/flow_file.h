/* SPDX-License-Identifier: MIT */
/*
 * The flow file, mitmproxy's format 21: a sequence of flows, each one tnetstring of a dict, with nothing around them.
 * Pure: bytes to flow and back; whoever calls does the reading and writing of files.
 *
 * What mitmproxy's format has no field for goes into a flow's metadata, which it keeps and shows:
 *
 *   mitm_bpf.pid, mitm_bpf.uid, mitm_bpf.comm, mitm_bpf.exe, mitm_bpf.cgroup, mitm_bpf.cgroup_id
 *                                 the process that opened the client connection (pid 0 = unknown: none are written)
 *   mitm_bpf.request_body_bytes, mitm_bpf.response_body_bytes
 *                                 how long the body was when only its beginning, or nothing, was kept
 *   mitm_bpf.bytes_dropped        of a TCP flow or WebSocket: bytes that passed and are not kept (the limit was
 *                                 reached, or the disk full; then about as many)
 *   mitm_bpf.passed_through       of a TCP flow: why its TLS was not intercepted
 *   mitm_bpf.client_ja3, mitm_bpf.client_ja4
 *                                 of the client's ClientHello
 *   mitm_bpf.server_ja3s          of the server's answer to ours
 *   mitm_bpf.upstream_ja3, mitm_bpf.upstream_ja4
 *                                 of the ClientHello that we sent to the server
 *
 * Reading puts them back where they came from; the last four lines' stay metadata.
 */
#pragma once

#include "base/err.h"
#include "flow/flow.h"
#include "wire/tnetstring.h"

#define FLOW_FILE_VERSION 21
#define FLOW_FILE_ITEM_MAX (UINT64_C(4) << 30)

/*
 * How many bytes the flow at the start of bytes takes. Returns 0; -EAGAIN when bytes ends within it (*size as for
 * tnet_measure()); -EBADMSG when this is no flow file, or a flow of more than FLOW_FILE_ITEM_MAX bytes.
 */
int flow_file_measure(struct str bytes, size_t *size, struct err *e) __must_check;

/*
 * Reads the one flow that item holds. Nothing in the flow refers to item afterwards. WebSocket messages, DNS messages
 * and backups are kept as the bytes that they were. Returns 0, -EBADMSG, -ENOTSUP (a version that is not read) or
 * -ENOMEM, with a sentence in e.
 */
int flow_file_read(struct str item, struct flow **out, struct err *e) __must_check;

struct flow_file_record;

/* {0} is ready. Flows of one connection share its record, so what a record looks like in the file is remembered. */
struct flow_file_writer {
	struct tnet_writer out;
	struct flow_file_record *records;        /* a table by identity; NULL: nothing is remembered yet */
	struct flow_file_record *recent[2];      /* of these, the server's and the client's that were last asked for */
	uint32_t next_way;                       /* of a full place in it, which goes next */
};

/*
 * Puts the flow in front of what w->out holds; waits for what is still on its way to the flow's files. What is in those
 * is only referred to: the flow must stay until it is written out, by flow_file_next() when w->out.absent_count is not
 * 0. Returns 0 or -ENOMEM.
 */
int flow_file_write(struct flow_file_writer *w, const struct flow *f) __must_check;

/* Of one walk through what was written last, front to back. */
struct flow_file_walk {
	size_t behind;                   /* what w->out held before; {0} but for this is the front */
	uint32_t absent;                 /* how many of those are behind us */
	uint64_t done;                   /* of the next one */
	size_t at;                       /* in what tnet_written() gives */
};

#define FLOW_FILE_PIECE (256u * 1024)

/* The next piece, there or read into buffer (FLOW_FILE_PIECE bytes); an empty one is the end. Returns 0, or -errno of
 * a file that cannot be read. */
int flow_file_next(struct flow_file_writer *w, struct flow_file_walk *walk, char *buffer,
		   struct str *piece) __must_check;

/* One message as it stands in a flow's list. absent: its bytes are left out, whoever writes it out puts them in. */
void flow_file_put_tcp_message(struct tnet_writer *w, const struct tcp_message *m, bool absent);
void flow_file_put_websocket_message(struct tnet_writer *w, const struct websocket_message *m, bool absent);
void flow_file_writer_fini(struct flow_file_writer *w);

/* "01234567-89ab-…"; text has room for 37 bytes. */
void flow_id_text(const uint8_t id[16], char text[static 37]);
