/* What threads wait for: an item or room for one, units of a semaphore, a resource. */
#ifndef FASTPOOL_BLOCKING_H
#define FASTPOOL_BLOCKING_H

#include "../invariants.h"
#include "../pool.h"
#include "../queue.h"
#include "../semaphore.h"
#include "../shared_pool.h"
#include "../slot_view.h"
#include "parking.h"

/* ---- Blocking queue operations ---- */

/* An item that was granted to one who does not want it any more, back to the end it came from; 0:
 * there is nowhere to keep it. */
static int fp_queue_put_back(fp_core *c, void *item) {
    fp_lock_take(&c->lock);
    int kept = c->items.cells != NULL && fp_deque_push(&c->items, item) == 0;
    if (kept && !c->lifo) {
        c->items.count--;
        c->items.head = (c->items.head - 1) & c->items.mask;
        c->items.cells[c->items.head] = item;
        c->items.count++;
    }
    fp_dispatch(c);
    fp_lock_drop(&c->lock);
    return kept;
}

/* The first half of a get, for threads and tasks: an item, or a position in the queue for `w` (NULL:
 * only try).  FP_WAITING: `w` has joined. */
static int fp_queue_get_join(fp_core *c, fp_waiter *w, void **item) {
    int state = FP_WAITING;
    fp_lock_take(&c->lock);
    uint32_t gate = fp_gate(c);
    if (gate & FP_CLOSED)
        state = FP_REFUSED;
    else if (!(gate & FP_HANDOFF) && (*item = fp_take_any(c)) != NULL) {
        state = FP_GRANTED;
        fp_dispatch(c); /* room for a putter */
    } else if (gate & FP_SHUT)
        state = FP_REFUSED;
    else if (w != NULL && c->getters.count >= c->max_waiting)
        state = FP_OVERLOADED;
    else if (w != NULL)
        fp_join(c, &c->getters, w, 0);
    fp_lock_drop(&c->lock);
    return state;
}

/* The same of a put. */
static int fp_queue_put_join(fp_core *c, fp_waiter *w, void *item) {
    int state = FP_WAITING;
    fp_lock_take(&c->lock);
    if (fp_gate(c) & (FP_CLOSED | FP_SHUT))
        state = FP_REFUSED;
    else if (c->putters.first == NULL && c->items.count < c->limit) {
        state = fp_queue_push(c, item) == FP_DONE ? FP_GRANTED : FP_MEMORY;
        fp_dispatch(c); /* something for a getter */
    } else if (w != NULL) {
        w->offer = item;
        fp_join(c, &c->putters, w, 0);
    }
    fp_lock_drop(&c->lock);
    return state;
}

/* `timeout_ns`: ns to wait at most; 0 tries only; FP_NEVER is for ever.  *interrupted: and
 * GRANTED, the item is the caller's to put back. */
static int fp_queue_get_slow(fp_core *c, int64_t timeout_ns, void **item, int *interrupted) {
    *interrupted = 0;
    fp_waiter *w = timeout_ns == 0 ? NULL : fp_waiter_new();
    if (timeout_ns != 0 && w == NULL) return FP_MEMORY;
    int64_t deadline = fp_set_deadline(w, timeout_ns);
    fp_defer_begin();
    int state = fp_queue_get_join(c, w, item);
    fp_defer_end();
    if (w != NULL && state == FP_WAITING) {
        state = fp_wait(c, &c->getters, w, deadline, interrupted);
        *item = w->grant;
    }
    if (w != NULL) fp_waiter_free(w);
    return state;
}

static int fp_queue_put_slow(fp_core *c, void *item, int64_t timeout_ns, int *interrupted) {
    *interrupted = 0;
    fp_waiter *w = timeout_ns == 0 ? NULL : fp_waiter_new();
    if (timeout_ns != 0 && w == NULL) return FP_MEMORY;
    int64_t deadline = fp_set_deadline(w, timeout_ns);
    fp_defer_begin();
    int state = fp_queue_put_join(c, w, item);
    fp_defer_end();
    if (w != NULL && state == FP_WAITING)
        state = fp_wait(c, &c->putters, w, deadline, interrupted);
    if (w != NULL) fp_waiter_free(w);
    return state;
}

static int fp_queue_join(fp_core *c, int *interrupted) {
    *interrupted = 0;
    fp_waiter *w = fp_waiter_new();
    if (w == NULL) return FP_MEMORY;
    fp_lock_take(&c->lock);
    int state = c->unfinished == 0 ? FP_GRANTED : FP_WAITING;
    if (state == FP_WAITING) fp_join(c, &c->joiners, w, 0);
    fp_lock_drop(&c->lock);
    if (state == FP_WAITING) state = fp_wait(c, &c->joiners, w, FP_NEVER, interrupted);
    fp_waiter_free(w);
    return state;
}

/* ---- Waiting for a part of a semaphore ---- */

/* Has the budget of a semaphore look at it; no lock is held, and no Python code run. */
static void (*fp_ask_budget)(fp_core *);

/* The first half, for threads and tasks: `n` of it, or a position in the queue for `w` (NULL: only
 * try). FP_WAITING: `w` has joined. */
static int fp_weighted_join(fp_core *c, fp_waiter *w, uint64_t n) {
    int state = FP_WAITING, ask = 0;
    fp_defer_begin();
    fp_lock_take(&c->lock);
    uint32_t gate = fp_gate(c);
    if (gate & FP_CLOSED)
        state = FP_REFUSED;
    else if (n > fp_load(&c->weights.size, relaxed)) /* since the caller has looked: it would never */
        state = FP_DEADLOCK;
    else if (!(gate & FP_HANDOFF) && fp_weights_take(&c->weights, n))
        state = FP_GRANTED;
    else if (w != NULL && c->getters.count >= c->max_waiting && !fp_units_may_grow(c))
        state = FP_OVERLOADED;
    else if (w != NULL) {
        w->weight = n;
        fp_join(c, &c->getters, w, 0);
        ask = fp_units_ask(c);
    }
    fp_check(c);
    fp_lock_drop(&c->lock);
    fp_defer_end();
    if (FP_UNLIKELY(ask)) fp_ask_budget(c);
    return state;
}

/* `timeout_ns`: ns to wait at most; 0 tries only. */
static int fp_weighted_wait(fp_core *c, uint64_t n, int64_t timeout_ns, int *interrupted) {
    *interrupted = 0;
    fp_waiter *w = timeout_ns == 0 ? NULL : fp_waiter_new();
    if (timeout_ns != 0 && w == NULL) return FP_MEMORY;
    int64_t deadline = fp_set_deadline(w, timeout_ns);
    int state = fp_weighted_join(c, w, n);
    if (w != NULL && state == FP_WAITING)
        state = fp_wait(c, &c->getters, w, deadline, interrupted);
    if (*interrupted && state == FP_GRANTED) /* while the handler ran: on to the next */
        (void)fp_weighted_give(c, n);
    if (w != NULL) fp_waiter_free(w);
    return state;
}

/* ---- Waiting for a resource ---- */

/* Whether `me`, a thread or a task, inside `with` blocks, holds every resource that the cap allows: then
 * nobody else could ever end its wait.  Stops at the first slot that is not its own. */
static int fp_holds_all(fp_core *c, uintptr_t me) {
    size_t mine = 0;
    uint32_t used = fp_load(&c->slots.used, acquire);
    for (uint32_t k = 0; k < used; k++) {
        fp_segment *segment = fp_load(&c->slots.segments[k], acquire);
        for (uint32_t i = 0; i < segment->size; i++) {
            unsigned state = fp_state(fp_load(&segment->slots[i].word, acquire));
            if (state == FP_FREE_SLOT) continue;
            if (state != FP_LEASED ||
                fp_load(&segment->slots[i].owner, relaxed) != (me | 1))
                return 0;
            mine++;
        }
    }
    return mine != 0 && mine >= c->limit;
}

/* How many callers are going to be served by what is being opened, or may be.  A resource that was
 * just made, and has not come to its caller yet, is CHECKING, but its creation is in flight still. */
static size_t fp_capacity_pending(fp_core *c) {
    size_t most = fp_most_open(c), looked_at = 0;
    size_t promised = c->in_flight - c->delivered + c->creating_in_caller;
    size_t resources = c->creating > promised ? c->creating : promised;
    resources += most > c->open ? most - c->open : 0;
    if (c->use != FP_SHARING) return resources;
    size_t permits = fp_spare_permits(c);
    if (resources > permits) return permits; /* each has a slot at least */
    (void)fp_free_slots(&c->slots, &c->loads, SIZE_MAX, &looked_at);
    size_t slots = resources * c->loads.slots + looked_at;
    return slots < permits ? slots : permits;
}

/* The first half of a wait, for threads and tasks: an idle slot, or a position in the queue for `w`
 * (NULL: only try).  `asked`: the manager was asked for one more, and the caller is one of `arriving`.
 * `in_front`: a waiter whose grant was no good.  FP_MAY_OPEN: ask the manager, one more may be opened,
 * or a permit for it is to be asked for;
 * FP_WAITING: `w` has joined.  *spare: a failure nobody is to see any more, for fp_drop_failure. */
static int fp_pool_join(fp_core *c, fp_waiter *w, uintptr_t me, int asked, int in_front,
                        fp_slot **slot, void **error, fp_waiter **spare) {
    int state = FP_WAITING;
    fp_waiter *failure = NULL;
    *slot = NULL;
    fp_lock_take(&c->lock);
    if (asked) {
        c->arriving--; /* under one lock with the join: demand never counts a caller twice */
        if ((failure = c->failures.first) != NULL) fp_wait_queue_remove(&c->failures, failure);
    }
    uint32_t gate = fp_gate(c);
    if (gate & FP_CLOSED)
        state = FP_REFUSED;
    else if (!(gate & (FP_HANDOFF | FP_SUSPENDED)) &&
             (*slot = (fp_slot *)fp_take_any(c)) != NULL)
        state = FP_GRANTED;
    else if (failure != NULL) { /* the try for this caller was over before it got here */
        state = FP_FAILED;
        *error = failure->grant;
        failure->grant = NULL;
    } else if (!asked && (fp_may_open(c) || fp_asks_for_permit(c)))
        state = FP_MAY_OPEN;
    else if (w != NULL && !in_front && c->max_waiting != SIZE_MAX &&
             (c->limit != SIZE_MAX || fp_counts_leases(c)) &&
             c->getters.count >= c->max_waiting + fp_capacity_pending(c))
        state = FP_OVERLOADED;
    else if (w != NULL && c->use == FP_POOL && c->open >= c->limit && fp_holds_all(c, me))
        state = FP_DEADLOCK;
    else if (w != NULL) {
        fp_join(c, &c->getters, w, in_front);
        /* a hit that saw nobody in the queue may have been the last of a resource: see
         * fp_ask_for_more */
        if (!asked && c->use == FP_SHARING && fp_may_open(c) && !fp_leave(c, &c->getters, w))
            state = FP_MAY_OPEN;
    }
    if (FP_UNLIKELY(c->spent)) fp_ask_for_more(c);
    fp_check(c);
    fp_lock_drop(&c->lock);
    *spare = failure;
    return state;
}

static void fp_drop_failure(fp_waiter *failure) {
    if (failure == NULL) return;
    Py_XDECREF((PyObject *)failure->grant); /* who it was for was served after all */
    fp_waiter_free(failure);
}

/* The second half: notes how long the wait in the queue was. */
static void fp_waited(fp_core *c, fp_waiter *w) {
    int64_t waited = fp_clock_precise() - w->since;
    fp_lock_take(&c->lock);
    fp_times_add(&c->waits, waited);
    fp_lock_drop(&c->lock);
}

/* A slot as LEASED, for a thread, and the generation in which it was granted: it may be lent no more, if
 * somebody gave it back wrongly meanwhile.  `me`: the thread; 0: its blocks are not looked at.  The states
 * of fp_pool_join and of a settled waiter. */
static int fp_pool_wait(fp_core *c, uintptr_t me, int64_t timeout_ns, int asked, int in_front,
                        fp_slot **slot, uint64_t *generation, void **error, int *interrupted) {
    *interrupted = 0;
    *slot = NULL;
    fp_waiter *w = timeout_ns == 0 ? NULL : fp_waiter_new(), *spare;
    if (timeout_ns != 0 && w == NULL) return FP_MEMORY;
    int64_t deadline = fp_set_deadline(w, timeout_ns);
    int state = fp_pool_join(c, w, me, asked, in_front, slot, error, &spare);
    if (*slot != NULL) *generation = fp_slot_generation(*slot);
    if (w != NULL && state == FP_WAITING) {
        state = fp_wait(c, &c->getters, w, deadline, interrupted);
        if (state == FP_GRANTED) *slot = (fp_slot *)w->grant, *generation = w->generation;
        if (state == FP_FAILED) *error = w->grant;
        fp_waited(c, w);
    }
    if (w != NULL) fp_waiter_free(w);
    fp_drop_failure(spare);
    return state;
}

#endif
