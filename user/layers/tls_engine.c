/* SPDX-License-Identifier: MIT */
/*
 * OpenSSL between chains. The BIO never blocks: reading from an empty chain is a retry, writing fails only without
 * memory. Nothing is allocated per record but slabs; OpenSSL's own record buffers are released while a session is idle.
 */
#include "layers/tls_engine.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>

/* Below this a piece of ciphertext that must wait is copied rather than kept in a slab of its own. */
#define SMALL_PIECE (BUF_SLAB_SIZE / 4)
#define ALERT_ECH_REQUIRED 121         /* not in OpenSSL 3.0 */
/* Less room than this is no place for the next record's plaintext. */
#define PLAIN_ROOM_MIN 2048u

/* --- the BIO --------------------------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *out, int len)
{
	struct tls_engine *e = BIO_get_data(bio);
	size_t got;

	BIO_clear_retry_flags(bio);
	if (e->in.len == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	got = chain_peek(&e->in, 0, out, (size_t)len);
	chain_drop(&e->in, got);
	return (int)got;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
	struct tls_engine *e = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (chain_write(&e->out, e->slabs, bytes, (size_t)len) < 0) {
		e->no_memory = true;
		return -1;
	}
	return len;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

BIO_METHOD *tls_engine_bio_new(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "chain");

	if (!method)
		return NULL;
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	return method;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

int tls_engine_init(struct tls_engine *e, SSL_CTX *ctx, BIO_METHOD *method, bool accept, void *owner)
{
	SSL *ssl = SSL_new(ctx);
	BIO *bio = ssl ? BIO_new(method) : NULL;

	if (!bio) {
		SSL_free(ssl);
		ERR_clear_error();
		return -ENOMEM;
	}
	BIO_set_data(bio, e);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_app_data(ssl, owner);
	if (accept)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	e->ssl = ssl;
	e->error = 0;
	e->no_memory = false;
	return 0;
}

void tls_engine_fini(struct tls_engine *e)
{
	if (e->ssl) {
		/* Else OpenSSL takes a session whose connection just ended for one that must not be resumed. */
		if (!e->error)
			SSL_set_shutdown(e->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(e->ssl);
	}
	e->ssl = NULL;
	e->start_len = 0;
	chain_clear(&e->in);
	chain_clear(&e->out);
}

/* --- bytes ----------------------------------------------------------------------------------------------------- */

static void note_start(struct tls_engine *e, const struct chain *data)
{
	size_t room = sizeof(e->start) - e->start_len;

	e->start_len += (uint32_t)chain_peek(data, 0, e->start + e->start_len, room);
}

int tls_engine_give(struct tls_engine *e, struct chain *data)
{
	int ret = 0;

	if (e->start_len < sizeof(e->start))
		note_start(e, data);
	if (e->in.count == 0)
		return chain_join(&e->in, data);
	for (uint32_t i = 0; i < data->count && ret == 0; i++) {
		const struct slice *s = chain_see(data, i);

		ret = s->len < SMALL_PIECE ? chain_write(&e->in, e->slabs, s->ptr, s->len)
					   : chain_append(&e->in, slice_get(*s));
	}
	chain_clear(data);
	return ret;
}

static enum tls_result failed(struct tls_engine *e)
{
	e->error = ERR_peek_last_error();
	if (!e->error)
		e->error = ERR_PACK(ERR_LIB_SSL, 0, ERR_R_INTERNAL_ERROR);
	ERR_clear_error();
	chain_clear(&e->in);
	return e->no_memory ? TLS_NO_MEMORY : TLS_FAILED;
}

static enum tls_result verdict(struct tls_engine *e, int ret)
{
	switch (SSL_get_error(e->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANT;
	case SSL_ERROR_ZERO_RETURN:
		chain_clear(&e->in);
		return TLS_SHUT;
	default:
		return failed(e);
	}
}

enum tls_result tls_engine_handshake(struct tls_engine *e)
{
	int ret;

	ERR_clear_error();
	ret = SSL_do_handshake(e->ssl);
	return ret == 1 ? TLS_DONE : verdict(e, ret);
}

enum tls_result tls_engine_read(struct tls_engine *e, struct chain *plain)
{
	ERR_clear_error();
	while (e->in.len || SSL_pending(e->ssl) > 0) {
		struct slab *slab = chain_room(plain, e->slabs, PLAIN_ROOM_MIN);
		int got;

		if (!slab)
			return TLS_NO_MEMORY;
		got = SSL_read(e->ssl, slab->data + slab->used, (int)(BUF_SLAB_SIZE - slab->used));
		if (got <= 0) {
			slab_put(slab);
			return verdict(e, got);
		}
		if (chain_fill(plain, slab, (uint32_t)got) < 0)
			return TLS_NO_MEMORY;
	}
	/* The loop spares the read that would find nothing, and with it the moment at which OpenSSL lets go of its
	 * 16 KiB: an idle connection would keep them. */
	SSL_free_buffers(e->ssl);
	return TLS_WANT;
}

enum tls_result tls_engine_peek(struct tls_engine *e)
{
	uint8_t byte;
	int ret;

	ERR_clear_error();
	ret = SSL_peek(e->ssl, &byte, 1);
	return ret > 0 ? TLS_DONE : verdict(e, ret);
}

/* The next record's worth: one slice where it is large, several small ones copied together. Returns its length. */
static size_t next_piece(const struct chain *plain, uint8_t scratch[static SSL3_RT_MAX_PLAIN_LENGTH],
			 const uint8_t **piece)
{
	const struct slice *s = chain_see(plain, 0);
	size_t len = s->len;

	*piece = s->ptr;
	if (plain->count == 1 || len + chain_see(plain, 1)->len > SSL3_RT_MAX_PLAIN_LENGTH)
		return len;
	for (uint32_t i = 1; i < plain->count; i++) {
		if (len + chain_see(plain, i)->len > SSL3_RT_MAX_PLAIN_LENGTH)
			break;
		len += chain_see(plain, i)->len;
	}
	*piece = scratch;
	return chain_peek(plain, 0, scratch, len);
}

enum tls_result tls_engine_write(struct tls_engine *e, struct chain *plain)
{
	uint8_t scratch[SSL3_RT_MAX_PLAIN_LENGTH];

	ERR_clear_error();
	while (plain->len) {
		const uint8_t *piece;
		size_t len = next_piece(plain, scratch, &piece);
		int wrote = SSL_write(e->ssl, piece, (int)len);

		if (wrote <= 0) {
			chain_clear(plain);
			return failed(e);
		}
		chain_drop(plain, (size_t)wrote);
	}
	return TLS_DONE;
}

void tls_engine_shutdown(struct tls_engine *e)
{
	if (!e->error && !(SSL_get_shutdown(e->ssl) & SSL_SENT_SHUTDOWN))
		SSL_shutdown(e->ssl);
	ERR_clear_error();
}

/* --- errors ---------------------------------------------------------------------------------------------------- */

int tls_engine_alert(const struct tls_engine *e)
{
	int reason = ERR_GET_REASON(e->error);

	if (ERR_GET_LIB(e->error) != ERR_LIB_SSL || reason < SSL_AD_REASON_OFFSET ||
	    reason > SSL_AD_REASON_OFFSET + UINT8_MAX)
		return -1;
	return reason - SSL_AD_REASON_OFFSET;
}

bool tls_engine_distrusted(const struct tls_engine *e)
{
	int reason = ERR_GET_REASON(e->error);

	return ERR_GET_LIB(e->error) == ERR_LIB_SSL &&
	       (reason == SSL_R_TLSV1_ALERT_UNKNOWN_CA || reason == SSL_R_SSLV3_ALERT_BAD_CERTIFICATE ||
		reason == SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN);
}

static bool starts_with_text(const struct tls_engine *e)
{
	for (uint32_t i = 0; i < e->start_len; i++)
		if (e->start[i] >= 0x80)
			return false;
	return e->start_len == sizeof(e->start);
}

const char *tls_engine_error(const struct tls_engine *e, bool upstream, char out[static TLS_ERROR_MAX])
{
	int reason = ERR_GET_LIB(e->error) == ERR_LIB_SSL ? ERR_GET_REASON(e->error) : 0;
	const char *text = ERR_reason_error_string(e->error);

	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		snprintf(out, TLS_ERROR_MAX, "Certificate verify failed: %s",
			 X509_verify_cert_error_string(SSL_get_verify_result(e->ssl)));
	else if (upstream && starts_with_text(e) &&
		 (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_PACKET_LENGTH_TOO_LONG))
		snprintf(out, TLS_ERROR_MAX, "The remote server does not speak TLS.");
	else if (upstream && (reason == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION || reason == SSL_R_UNSUPPORTED_PROTOCOL))
		snprintf(out, TLS_ERROR_MAX,
			 "The remote server and the proxy cannot agree on a TLS version to use. "
			 "You may need to adjust the tls_version_server_min option.");
	else if (!upstream && reason == SSL_R_UNSUPPORTED_PROTOCOL)
		snprintf(out, TLS_ERROR_MAX,
			 "Client and the proxy cannot agree on a TLS version to use. "
			 "You may need to adjust the tls_version_client_min option.");
	else if (!upstream && reason == SSL_R_NO_SHARED_CIPHER)
		snprintf(out, TLS_ERROR_MAX,
			 "Client and the proxy cannot agree on a cipher to use. "
			 "You may need to adjust the ciphers_client option.");
	else if (!upstream && (reason == SSL_R_NO_SUITABLE_KEY_SHARE || reason == SSL_R_NO_SHARED_GROUPS))
		snprintf(out, TLS_ERROR_MAX,
			 "Client and the proxy cannot agree on a group to use. "
			 "You may need to adjust the tls_ecdh_curve_client option.");
	else if (!upstream && tls_engine_alert(e) == ALERT_ECH_REQUIRED)
		snprintf(out, TLS_ERROR_MAX,
			 "Client and the proxy have no Encrypted ClientHello in common, which ends at the proxy. "
			 "Most clients try again without it.");
	else if (upstream && tls_engine_alert(e) >= 0)
		snprintf(out, TLS_ERROR_MAX, "The remote server sent an alert: %s",
			 text ? text : "unknown alert");
	else
		snprintf(out, TLS_ERROR_MAX, "%s%s", tls_engine_distrusted(e) ? "" : "OpenSSL: ",
			 text ? text : "unknown error");
	return out;
}
