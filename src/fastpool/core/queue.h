/* Queue use: the fast path of put and get, and shutting down.  Plain C11. */
#ifndef FASTPOOL_QUEUE_H
#define FASTPOOL_QUEUE_H

#include "core.h"

enum { FP_DONE, FP_NOT_NOW, FP_NO_MEMORY };

/* With the GIL or the lock.  The fast path of put and get; NOT_NOW: see the slow path. */
static inline int fp_queue_push(fp_core *c, void *item) {
    if (FP_UNLIKELY(c->items.count >= c->limit)) return FP_NOT_NOW;
    if (FP_UNLIKELY(fp_deque_push(&c->items, item) < 0)) return FP_NO_MEMORY;
    c->unfinished++;
    return FP_DONE;
}

static inline int fp_queue_put(fp_core *c, void *item) {
#if FP_ATOMIC
    fp_lock_take(&c->lock);
#endif
    uint32_t gate = fp_gate(c);
    int slow = FP_UNLIKELY(gate & (FP_PUT_SLOW | FP_NOTICE)) &&
               (gate & FP_PUT_SLOW || fp_head_is_late(c, gate));
    int done = FP_UNLIKELY(slow) ? FP_NOT_NOW : fp_queue_push(c, item);
#if FP_ATOMIC
    fp_lock_drop(&c->lock);
#endif
    return done;
}

static inline void *fp_queue_get(fp_core *c, int lifo) {
    void *item = NULL;
#if FP_ATOMIC
    fp_lock_take(&c->lock);
#endif
    if (FP_LIKELY((fp_gate(c) & FP_GET_SLOW) == 0 && c->items.count != 0)) {
        item = lifo ? fp_deque_pop_tail(&c->items) : fp_deque_pop_head(&c->items);
        fp_deque_shrink(&c->items);
    }
#if FP_ATOMIC
    fp_lock_drop(&c->lock);
#endif
    return item;
}

/* One item's work is done; 0: more often than items were put. */
static size_t fp_queue_finish(fp_core *c) {
    fp_waiter *w;
    fp_lock_take(&c->lock);
    size_t before = c->unfinished;
    if (before != 0 && --c->unfinished == 0)
        while ((w = c->joiners.first) != NULL) {
            fp_wait_queue_remove(&c->joiners, w);
            fp_end_wait(w, FP_GRANTED, NULL);
        }
    fp_lock_drop(&c->lock);
    return before;
}

/* Refuses putters, and getters once it is empty.  At once: the items are dropped too; the caller
 * gets them in a buffer of its own to release, after the lock.  Else that is empty. */
static size_t fp_queue_shut(fp_core *c, int at_once, fp_deque *dropped) {
    size_t n = 0;
    memset(dropped, 0, sizeof *dropped);
    fp_lock_take(&c->lock);
    fp_gate_set(c, FP_SHUT);
    fp_refuse_all(&c->putters);
    if (at_once) {
        *dropped = c->items;
        n = c->items.count;
        c->items.cells = NULL;
        c->items.count = c->items.head = c->items.sparse = 0;
        c->items.mask = (size_t)-1; /* nothing is ever pushed again */
        c->unfinished -= n < c->unfinished ? n : c->unfinished;
    }
    fp_dispatch(c);
    if (c->unfinished == 0) {
        fp_waiter *w;
        while ((w = c->joiners.first) != NULL) {
            fp_wait_queue_remove(&c->joiners, w);
            fp_end_wait(w, FP_GRANTED, NULL);
        }
    }
    fp_lock_drop(&c->lock);
    return n;
}

#endif
