/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Side B: requests in, completions out.  The mirror of client.c. */
#include "exchange.h"

EXPORT struct evering_cqe *evering_get_cqe(struct evering *ep)
{
	return evr_get(ep, EVERING_SIDE_B);
}

EXPORT int evering_cqe_cancel(struct evering *ep, const struct evering_cqe *cqe)
{
	return evr_cancel(ep, EVERING_SIDE_B, cqe);
}

EXPORT int evering_complete(struct evering *ep)
{
	return evr_submit(ep, EVERING_SIDE_B);
}

EXPORT int evering_complete_and_wait_timeout(struct evering *ep,
					   const struct evering_sqe **sqe,
					   unsigned int wait_nr,
					   const struct timespec *timeout)
{
	return evr_submit_and_wait(ep, EVERING_SIDE_B, sqe, wait_nr, timeout);
}

EXPORT int evering_complete_and_wait(struct evering *ep, unsigned int wait_nr)
{
	return evr_submit_and_wait(ep, EVERING_SIDE_B, NULL, wait_nr, NULL);
}

EXPORT unsigned int evering_cq_reserved(const struct evering *ep)
{
	if (ep->side != EVERING_SIDE_B)
		return 0;
	return (unsigned int)(ep->out.reserved - ep->out.tail);
}

EXPORT int evering_wait_cq_space(struct evering *ep,
				 const struct timespec *timeout)
{
	return evr_wait_space(ep, EVERING_SIDE_B, timeout);
}

EXPORT int evering_peek_sqe(struct evering *ep, const struct evering_sqe **sqe)
{
	int ret = evr_peek(ep, EVERING_SIDE_B, sqe, 1);

	return ret < 0 ? ret : 0;
}

EXPORT int evering_peek_batch_sqe(struct evering *ep,
				  const struct evering_sqe **sqes,
				  unsigned int nr)
{
	return evr_peek(ep, EVERING_SIDE_B, sqes, nr);
}

EXPORT int evering_wait_sqes(struct evering *ep, const struct evering_sqe **sqe,
			     unsigned int wait_nr,
			     const struct timespec *timeout)
{
	return evr_wait(ep, EVERING_SIDE_B, sqe, wait_nr, timeout);
}

EXPORT int evering_wait_sqe(struct evering *ep, const struct evering_sqe **sqe)
{
	return evering_wait_sqes(ep, sqe, 1, NULL);
}

EXPORT int evering_wait_sqe_timeout(struct evering *ep,
				    const struct evering_sqe **sqe,
				    const struct timespec *timeout)
{
	return evering_wait_sqes(ep, sqe, 1, timeout);
}

EXPORT void evering_sqe_seen(struct evering *ep, const struct evering_sqe *sqe)
{
	(void)sqe;
	evr_advance(ep, EVERING_SIDE_B, 1);
}

EXPORT void evering_sq_advance(struct evering *ep, unsigned int nr)
{
	evr_advance(ep, EVERING_SIDE_B, nr);
}
