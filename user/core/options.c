/* SPDX-License-Identifier: MIT */
/* The defaults that workers run with; what a person set is put on top by the master. */
#include "core/options.h"

#define SECOND_NS INT64_C(1000000000)

void options_init(struct options *o)
{
	*o = (struct options){
		.connection_eager = true,
		.upstream_cert = true,
		.rawtcp = true,
		.websocket = true,
		.http2 = true,
		.validate_inbound_headers = true,
		.normalize_outbound_headers = true,
		.http_connect_send_host_header = true,
		.body_streaming = true,
		.tls_version_client_min = TLS_1_2,
		.tls_version_server_min = TLS_1_2,
		.tls_passthrough_client_cert = true,
		.tls_passthrough_ns = 3600 * SECOND_NS,
		.tcp_timeout_ns = 600 * SECOND_NS,
		.udp_timeout_ns = 20 * SECOND_NS,
		.connect_timeout_ns = 10 * SECOND_NS,
		.http2_ping_keepalive_ns = 58 * SECOND_NS,
		.body_capture_max = 256u << 20,
		.body_size_limit = UINT64_MAX,
		.stream_large_bodies = UINT64_MAX,
		.header_bytes_max = 256 * 1024,
		.header_count_max = 1000,
	};
}
