/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A small HTTP server in an event loop: GET and HEAD, a page at a time, from
 * memory.  Connections, their memory and their time are bounded; other methods
 * are answered by 405.
 */
#ifndef PYLEAKD_SERVICE_HTTP_H
#define PYLEAKD_SERVICE_HTTP_H

#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/buffer.h"

#define HTTP_CONNECTIONS_MAX 32
#define HTTP_CONNECTION_BYTES_MAX (16u << 10)
#define HTTP_TIMEOUT_SECONDS 10
#define HTTP_BODY_BYTES_MAX (256u << 20)
#define HTTP_MESSAGE_BYTES 256

/*
 * The page at a path: its body, and its media type, static.  Returns the HTTP
 * status; a body that could not be made (its error) is answered by 500.
 */
typedef unsigned http_page(void *context, const char *path, struct buffer *body,
			   const char **ret_type);

struct http;
/*
 * Listens at host (an IPv4 or IPv6 address); port 0: any that is free.
 * ret_message (HTTP_MESSAGE_BYTES): why not, and what to do.
 */
int http_new(sd_event *event, const char *host, uint16_t port, http_page *page, void *context,
	     struct http **ret, char *ret_message);
void http_free(struct http *http);
uint16_t http_port(const struct http *http);

#endif
