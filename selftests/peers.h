/* SPDX-License-Identifier: MIT */
/* Addresses of clients and origins, and the line that those who answer send. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"

#define LINE_MAX_LEN 1024

static __unused socklen_t address_of(struct sockaddr_storage *a, const char *ip, uint16_t port)
{
	*a = (struct sockaddr_storage){ 0 };
	if (inet_pton(AF_INET, ip, &((struct sockaddr_in *)a)->sin_addr) == 1)
		a->ss_family = AF_INET;
	else if (inet_pton(AF_INET6, ip, &((struct sockaddr_in6 *)a)->sin6_addr) == 1)
		a->ss_family = AF_INET6;
	else
		die("no address: %s", ip);
	((struct sockaddr_in *)a)->sin_port = htons(port);
	return a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* "192.0.2.1 80". Returns out. */
static __unused char *address_text(const struct sockaddr_storage *a, char *out, size_t size)
{
	char ip[INET6_ADDRSTRLEN] = "?";

	if (a->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, ip, sizeof(ip));
	else
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr, ip, sizeof(ip));
	snprintf(out, size, "%s %u", ip, ntohs(((const struct sockaddr_in *)a)->sin_port));
	return out;
}

/* To the end of what comes, without the end of the line. Returns 0 or -errno, then of what came before. */
static __unused int read_line(int fd, char *line)
{
	ssize_t len, got = 0;

	while ((len = read(fd, line + got, (size_t)(LINE_MAX_LEN - 1 - got))) > 0)
		got += len;
	line[got] = 0;
	line[strcspn(line, "\n")] = 0;
	return len < 0 ? -errno : 0;
}

static __unused bool starts(const char *line, const char *with)
{
	return strncmp(line, with, strlen(with)) == 0;
}
