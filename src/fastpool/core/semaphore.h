/* Taking and giving back parts of a weighted semaphore; the gate and the queue are those of every pool
 * (core.h), the count is in storage/semaphore_units.h.  The rules are those of Go's semaphore.Weighted: first
 * come, first served, and a big request at the head keeps smaller ones behind it waiting.
 */
#ifndef FASTPOOL_SEMAPHORE_H
#define FASTPOOL_SEMAPHORE_H

#include "core.h"

/* 0: take the slow path. */
static inline int fp_weighted_hit(fp_core *c, uint64_t n) {
    if (FP_UNLIKELY(fp_gate(c) & FP_GET_SLOW)) return 0;
    return fp_weights_take(&c->weights, n);
}

/* 0: so much is not taken, and nothing has changed. */
static inline int fp_weighted_give(fp_core *c, uint64_t n) {
    if (FP_UNLIKELY(!fp_weights_give(&c->weights, n))) return 0;
    /* after it was given back: see the proof in core.h */
    if (FP_UNLIKELY(fp_gate(c) & FP_GETTERS)) fp_dispatch_locked(c);
    return 1;
}

static inline uint64_t fp_weights_taken(fp_core *c) { return fp_load(&c->weights.taken, relaxed); }

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
