/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Side A: requests out, completions in. */
#include "exchange.h"

EXPORT struct evering_sqe *evering_get_sqe(struct evering *ep)
{
	return evr_get(ep, EVERING_SIDE_A);
}

EXPORT int evering_sqe_cancel(struct evering *ep, const struct evering_sqe *sqe)
{
	return evr_cancel(ep, EVERING_SIDE_A, sqe);
}

EXPORT int evering_submit(struct evering *ep)
{
	return evr_submit(ep, EVERING_SIDE_A);
}

EXPORT int evering_submit_and_wait_timeout(struct evering *ep,
					   const struct evering_cqe **cqe,
					   unsigned int wait_nr,
					   const struct timespec *timeout)
{
	return evr_submit_and_wait(ep, EVERING_SIDE_A, cqe, wait_nr, timeout);
}

EXPORT int evering_submit_and_wait(struct evering *ep, unsigned int wait_nr)
{
	return evr_submit_and_wait(ep, EVERING_SIDE_A, NULL, wait_nr, NULL);
}

EXPORT unsigned int evering_sq_reserved(const struct evering *ep)
{
	if (ep->side != EVERING_SIDE_A)
		return 0;
	return (unsigned int)(ep->out.reserved - ep->out.tail);
}

EXPORT int evering_wait_sq_space(struct evering *ep,
				 const struct timespec *timeout)
{
	return evr_wait_space(ep, EVERING_SIDE_A, timeout);
}

EXPORT int evering_peek_cqe(struct evering *ep, const struct evering_cqe **cqe)
{
	int ret = evr_peek(ep, EVERING_SIDE_A, cqe, 1);

	return ret < 0 ? ret : 0;
}

EXPORT int evering_peek_batch_cqe(struct evering *ep,
				  const struct evering_cqe **cqes,
				  unsigned int nr)
{
	return evr_peek(ep, EVERING_SIDE_A, cqes, nr);
}

EXPORT int evering_wait_cqes(struct evering *ep, const struct evering_cqe **cqe,
			     unsigned int wait_nr,
			     const struct timespec *timeout)
{
	return evr_wait(ep, EVERING_SIDE_A, cqe, wait_nr, timeout);
}

EXPORT int evering_wait_cqe(struct evering *ep, const struct evering_cqe **cqe)
{
	return evering_wait_cqes(ep, cqe, 1, NULL);
}

EXPORT int evering_wait_cqe_timeout(struct evering *ep,
				    const struct evering_cqe **cqe,
				    const struct timespec *timeout)
{
	return evering_wait_cqes(ep, cqe, 1, timeout);
}

EXPORT void evering_cqe_seen(struct evering *ep, const struct evering_cqe *cqe)
{
	(void)cqe;
	evr_advance(ep, EVERING_SIDE_A, 1);
}

EXPORT void evering_cq_advance(struct evering *ep, unsigned int nr)
{
	evr_advance(ep, EVERING_SIDE_A, nr);
}
