/* SPDX-License-Identifier: MIT */
/* Chooses a backend by trying: what a kernel or a container refuses is known only then. */
#include "io/io.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/log.h"
#include "io/epoll.h"
#include "io/uring.h"

int io_new(struct io **out, enum io_choice choice, struct err *e)
{
	static atomic_bool said;
	struct err why;
	int ret;

	switch (choice) {
	case IO_EPOLL:
		return epoll_new(out, e);
	case IO_URING:
		ret = uring_new(out, e);
		if (ret < 0)
			err_prefix(e, "--io uring");
		return ret;
	case IO_AUTO:
		ret = uring_new(out, &why);
		if (ret == 0 || ret == -EMFILE || ret == -ENFILE) {
			if (ret < 0)
				err_set(e, ret, "%s", why.text);
			return ret;
		}
		if (!atomic_exchange(&said, true))
			log_line(LOG_WARN, "io", "using epoll instead of io_uring: %s", why.text);
		return epoll_new(out, e);
	}
	return err_set(e, -EINVAL, "unknown I/O backend");
}
