/* Taking and giving back parts of a weighted semaphore; the gate and the queue are those of every pool
 * (core.h), the count is in storage/semaphore_units.h.  The rules are those of Go's semaphore.Weighted: first
 * come, first served, and a big request at the head keeps smaller ones behind it waiting.
 */
#ifndef FASTPOOL_SEMAPHORE_H
#define FASTPOOL_SEMAPHORE_H

#include "core.h"

/* 0: so much is not taken, and nothing has changed. */
static inline int fp_weighted_give(fp_core *c, uint64_t n) {
    if (FP_UNLIKELY(!fp_weights_give(&c->weights, n))) return 0;
    /* after it was given back: see the proof in core.h */
    if (FP_UNLIKELY(fp_gate(c) & FP_GETTERS)) fp_dispatch_locked(c);
    return 1;
}

/* 0: take the slow path. */
static inline int fp_weighted_hit(fp_core *c, uint64_t n) {
    if (FP_UNLIKELY(fp_gate(c) & FP_GET_SLOW)) return 0;
    if (!fp_weights_take(&c->weights, n)) return 0;
    if (FP_LIKELY(!fp_weights_over(&c->weights))) return 1;
    (void)fp_weighted_give(c, n);
    return 0;
}

static inline uint64_t fp_weights_taken(fp_core *c) { return fp_load(&c->weights.taken, relaxed); }

/* ---- Of a semaphore whose units are permits of a budget, one for each caller; all under the lock ---- */

static uint64_t fp_units_wanted(fp_core *c) {
    uint64_t size = fp_load(&c->weights.size, relaxed);
    uint64_t wanted = fp_weights_taken(c) + c->getters.count;
    return wanted < size ? wanted : size;
}

/* Whether the budget is to be asked to look, now that one more waits: it does not know of so many, and
 * nobody has asked since it has looked. */
static int fp_units_ask(fp_core *c) {
    if (c->allowance == SIZE_MAX || c->short_of_permits) return 0;
    if (fp_units_wanted(c) <= c->weights.reported) return 0;
    c->short_of_permits = 1;
    return 1;
}

/* Whether one more who waits may be served by a permit that is to come: the budget has given all that it
 * was asked for. */
static int fp_units_may_grow(fp_core *c) {
    return c->allowance != SIZE_MAX && c->allowance >= c->weights.reported &&
           fp_units_wanted(c) < fp_load(&c->weights.size, relaxed);
}

/* The budget looks: how many are wanted.  From here on it is asked again. */
static uint64_t fp_units_look(fp_core *c) {
    c->short_of_permits = 0;
    return c->weights.reported = fp_units_wanted(c);
}

/* What a borrower holds for the length of a block. */
enum { FP_HOLD_FRESH, FP_HOLD_HELD, FP_HOLD_RELEASED };

typedef struct {
    uint64_t n;
    int64_t timeout_ns;   /* ns to wait at most */
    uint64_t forks;       /* of the process that took it */
    FP_SHARED(int) state; /* ended in one step, and so once */
} fp_hold;

static inline int fp_hold_move(fp_hold *h, int from, int to) {
#if FP_ATOMIC
    return atomic_compare_exchange_strong(&h->state, &from, to);
#else
    if (h->state != from) return 0;
    h->state = to;
    return 1;
#endif
}

static inline int fp_hold_state(fp_hold *h) { return fp_load(&h->state, acquire); }

#endif
