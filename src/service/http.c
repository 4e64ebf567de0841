/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "service/events.h"

#define TYPE_TEXT "text/plain; charset=utf-8"
#define BACKLOG 64
#define IDLE_US 1000000ULL
#define US_PER_MS 1000ULL

struct http {
	struct MHD_Daemon *server;
	sd_event_source *sockets, *timer;
	http_page *page;
	void *context;
	uint16_t port;
};

DEFINE_CLEANUP(struct http *, http_free)

/* --- an answer --- */

/* Takes what the buffer holds. */
static enum MHD_Result send_body(struct MHD_Connection *connection, unsigned status,
				 const char *type, struct buffer *body)
{
	size_t size = body->size;
	char *bytes = buffer_take(body);
	struct MHD_Response *response;
	enum MHD_Result result;

	if (!bytes)
		return MHD_NO; /* closes the connection */
	response = MHD_create_response_from_buffer(size, bytes, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(bytes);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result send_words(struct MHD_Connection *connection, unsigned status,
				  const char *words)
{
	_cleanup_buffer_ struct buffer body = buffer_init(HTTP_BODY_BYTES_MAX);

	buffer_printf(&body, "%s\n", words);
	return send_body(connection, status, TYPE_TEXT, &body);
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
			      const char *method, const char *version, const char *upload,
			      size_t *upload_size, void **request)
{
	_cleanup_buffer_ struct buffer body = buffer_init(HTTP_BODY_BYTES_MAX);
	struct http *http = context;
	const char *type = TYPE_TEXT;
	unsigned status;

	(void)version;
	(void)upload;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return send_words(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only");
	if (!*request) { /* the headers are there; asked again when the request is complete */
		*request = http;
		return MHD_YES;
	}
	if (*upload_size) { /* a body, which no page takes */
		*upload_size = 0;
		return MHD_YES;
	}
	status = http->page(http->context, url, &body, &type);
	if (body.error < 0)
		return send_words(connection, MHD_HTTP_INTERNAL_SERVER_ERROR,
				  "the page could not be made");
	return send_body(connection, status, type, &body);
}

/* --- in the event loop --- */

static void run(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;
	uint64_t in_us = IDLE_US;

	MHD_run(http->server);
	if (MHD_get_timeout(http->server, &timeout_ms) == MHD_YES &&
	    timeout_ms < IDLE_US / US_PER_MS)
		in_us = timeout_ms * US_PER_MS;
	sd_event_source_set_time_relative(http->timer, in_us);
}

static int on_sockets(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source;
	(void)fd;
	(void)events;
	run(userdata);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	run(userdata);
	return 0;
}

static int hang_in(struct http *http, sd_event *event)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(http->server, MHD_DAEMON_INFO_EPOLL_FD);
	int r;

	if (!info || info->epoll_fd < 0)
		return -ENOTSUP;
	r = events_add_timer(event, IDLE_US, on_timer, SD_EVENT_PRIORITY_NORMAL, http,
			     &http->timer);
	if (r < 0)
		return r;
	return sd_event_add_io(event, &http->sockets, info->epoll_fd, EPOLLIN, on_sockets, http);
}

/* --- listening --- */

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

static socklen_t address_of(const char *host, uint16_t port, union address *ret)
{
	*ret = (union address){0};
	if (inet_pton(AF_INET, host, &ret->four.sin_addr) == 1) {
		ret->four.sin_family = AF_INET;
		ret->four.sin_port = htons(port);
		return sizeof(ret->four);
	}
	if (inet_pton(AF_INET6, host, &ret->six.sin6_addr) == 1) {
		ret->six.sin6_family = AF_INET6;
		ret->six.sin6_port = htons(port);
		return sizeof(ret->six);
	}
	return 0;
}

static int listen_at(const char *host, uint16_t port, int *ret_fd, uint16_t *ret_port)
{
	_cleanup_close_ int fd = -1;
	union address address;
	socklen_t size = address_of(host, port, &address);
	int yes = 1;

	if (size == 0)
		return -EINVAL;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
	    bind(fd, &address.any, size) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, &address.any, &size) < 0)
		return -errno;
	*ret_port = ntohs(address.any.sa_family == AF_INET ? address.four.sin_port
							   : address.six.sin6_port);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int start(struct http *http, const char *host, uint16_t port)
{
	_cleanup_close_ int fd = -1;
	int r = listen_at(host, port, &fd, &http->port);

	if (r < 0)
		return r;
	http->server =
		MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer, http,
				 MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
				 (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				 (unsigned)HTTP_TIMEOUT_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				 (size_t)HTTP_CONNECTION_BYTES_MAX, MHD_OPTION_END);
	if (!http->server)
		return -ENOMEM;
	TAKE_FD(fd); /* the server's */
	return 0;
}

int http_new(sd_event *event, const char *host, uint16_t port, http_page *page, void *context,
	     struct http **ret, char *ret_message)
{
	CLEANUP(http_free) struct http *http = calloc(1, sizeof(*http));
	int r;

	if (!http) {
		snprintf(ret_message, HTTP_MESSAGE_BYTES, "no memory: free some and try again");
		return -ENOMEM;
	}
	http->page = page;
	http->context = context;
	r = start(http, host, port);
	if (r == 0)
		r = hang_in(http, event);
	if (r < 0) {
		snprintf(ret_message, HTTP_MESSAGE_BYTES,
			 "%s port %u can't be listened at (%s): choose another address for "
			 "\"listen\" in the configuration",
			 host, port, strerror(-r));
		return r;
	}
	*ret = TAKE_PTR(http);
	return 0;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	sd_event_source_disable_unref(http->sockets);
	sd_event_source_disable_unref(http->timer);
	if (http->server)
		MHD_stop_daemon(http->server);
	free(http);
}

uint16_t http_port(const struct http *http)
{
	return http->port;
}
