/* How much of a weighted semaphore is taken: one word, each change of it one compare-and-swap.
 *
 * Plain C11.  Whoever waits for more of it waits in the queue of core.h, at whose head the proof
 * stands: a taker in the queue looks here after it has set its bit, and a release comes here before it
 * reads the gate.
 */
#ifndef FASTPOOL_SEMAPHORE_UNITS_H
#define FASTPOOL_SEMAPHORE_UNITS_H

#include "../platform/atomics.h"

typedef struct {
    FP_SHARED(uint64_t) size;   /* of it all; writer: under the lock; readers: anyone */
    FP_SHARED(uint64_t) most;   /* that may be taken: all, or less by a budget; written as `size` is */
    FP_SHARED(uint64_t) taken;  /* anyone, by CAS; above `most` only where that was made smaller */
    uint64_t reported;          /* under the lock: units that a budget knows to be wanted */
} fp_weights;

/* Under the lock: so much there is, and so much of it may be taken.  seq_cst: the store half of the pair
 * with fp_weights_over, so what is taken is counted after it. */
static inline void fp_weights_set(fp_weights *s, uint64_t size, uint64_t allowance) {
    fp_store(&s->size, size, relaxed);
    fp_store(&s->most, size < allowance ? size : allowance, seq_cst);
}

/* 1: `n` more are taken.  seq_cst: the load half of the pair with a release; a later look, after
 * somebody was faster, sees what the first one saw or newer. */
static inline int fp_weights_take(fp_weights *s, uint64_t n) {
    uint64_t taken = fp_load(&s->taken, seq_cst);
    do {
        if (taken + n > fp_load(&s->most, relaxed)) return 0; /* neither is above 2**62 */
    } while (!fp_cas(&s->taken, &taken, taken + n, seq_cst));
    return 1;
}

/* Whether more is taken than may be.  Who has just taken some by an older `most` finds it out here, or
 * is seen by whoever has made it smaller and then counts. */
static inline int fp_weights_over(fp_weights *s) {
    return fp_load(&s->taken, seq_cst) > fp_load(&s->most, seq_cst);
}

/* 0: so much is not taken, and nothing has changed.  seq_cst: the store half. */
static inline int fp_weights_give(fp_weights *s, uint64_t n) {
    uint64_t taken = fp_load(&s->taken, relaxed);
    do {
        if (FP_UNLIKELY(n > taken)) return 0;
    } while (!fp_cas(&s->taken, &taken, taken - n, seq_cst));
    return 1;
}

#endif
