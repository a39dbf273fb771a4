/* Leases of a shared pool: many of one resource, counted when it is picked; the gate and the queue are
 * those of every pool (core.h), the counts are in storage/lease_counts.h.
 */
#ifndef FASTPOOL_SHARED_POOL_H
#define FASTPOOL_SHARED_POOL_H

#include "pool.h"

/* The same outside the lock: somebody waits, and a caller who was faster has had the last lease of a
 * resource. */
static FP_COLD void fp_spent_locked(fp_core *c) {
    fp_defer_begin();
    fp_lock_take(&c->lock);
    fp_ask_for_more(c);
    fp_lock_drop(&c->lock);
    fp_defer_end();
}

/* A lease where each takes a permit of a budget: counted, and so taken under the lock.  NULL as below. */
static FP_COLD fp_slot *fp_sharing_counted_hit(fp_core *c, fp_slot **due) {
    if (!fp_counts_leases(c)) return NULL;
    fp_slot *slot = NULL;
    fp_defer_begin();
    fp_lock_take(&c->lock);
    if (!(fp_gate(c) & FP_GET_SLOW & ~FP_PERMITS)) slot = (fp_slot *)fp_take_any(c);
    if (c->spent) fp_ask_for_more(c);
    fp_check(c);
    fp_lock_drop(&c->lock);
    fp_defer_end();
    if (slot == NULL || fp_state(fp_load(&slot->word, acquire)) != FP_LEASED) return slot;
    *due = slot;
    return NULL;
}

/* A slot of the least loaded resource that costs one look at the gate, one at each resource and one
 * compare-and-swap.  NULL: take the slow path; *due is a resource taken alone, about which the manager
 * has to be asked before others may share it. */
FP_INLINE fp_slot *fp_sharing_hit(fp_core *c, fp_slot **due) {
    if (FP_UNLIKELY(fp_gate(c) & FP_GET_SLOW)) return fp_sharing_counted_hit(c, due);
    fp_slot *slot = fp_sharing_take(c);
    if (FP_UNLIKELY(slot == NULL)) return NULL;
#if !FP_ATOMIC
    c->last = slot;
#endif
    if (FP_UNLIKELY(c->has_check) && fp_state(fp_load(&slot->word, acquire)) == FP_LEASED) {
        *due = slot;
        return NULL;
    }
    if (FP_UNLIKELY(fp_is_spent(&c->loads, slot)) && fp_gate(c) & FP_WAITER_BITS) fp_spent_locked(c);
    return slot;
}

/* A slot of this one resource, where nobody waits, it has room and nothing speaks against it: no
 * penalty, no check that it might need.  NULL: the caller takes any.  The resource may have been closed
 * and its slot be another's by the time that it is taken: whoever has the lease has to look. */
static inline fp_slot *fp_sharing_hit_of(fp_core *c, const void *item) {
    if (fp_gate(c) & (FP_GET_SLOW | FP_WAITER_BITS) || c->has_check) return NULL;
    fp_slot *slot = fp_pool_find(c, item);
    if (slot == NULL) return NULL;
    uint64_t load = fp_load(&slot->load, seq_cst);
    do {
        if (!(load & FP_OPEN) || fp_load_of(load) >= c->loads.slots) return NULL;
        int64_t until = fp_load(&slot->penalized_until, relaxed);
        if (until != 0 && fp_now(c) < until) return NULL;
    } while (!fp_load_take(&c->loads, slot, &load));
    if (FP_UNLIKELY(fp_is_spent(&c->loads, slot)) && fp_gate(c) & FP_WAITER_BITS) fp_spent_locked(c);
    return slot;
}

/* It was in order just now, as far as this lease can say; a suspect one stays suspect, since others may
 * have had no occasion to find out. */
static inline void fp_sharing_used(fp_core *c, fp_slot *slot, int64_t now) {
    int64_t stale_at = fp_load(&slot->stale_at, relaxed);
    if (FP_LIKELY(stale_at != FP_SUSPECT))
        (void)fp_cas(&slot->stale_at, &stale_at, fp_later(now, fp_load(&c->fresh_for, relaxed)),
                     relaxed);
}

/* The whole of a return, by whoever has one lease of it.  1: done; 0: it was the last one of a resource
 * that takes no more, which is CHECKING now and the caller's to close; -1: nobody has a lease of it.
 * *notify: the manager has to know, since the pool was closed or a resource takes no more leases. */
FP_INLINE int fp_sharing_return(fp_core *c, fp_slot *slot, int *notify) {
    if (FP_LIKELY(fp_load(&c->timed, relaxed))) {
        int64_t now = fp_now(c); /* before it may be somebody else's */
        if (FP_UNLIKELY((fp_load(&slot->load, relaxed) & FP_LOAD) == 0)) return -1;
        fp_store(&slot->since, now, relaxed);
        if (c->has_check) fp_sharing_used(c, slot, now);
    }
    int given = fp_load_give(slot);
    if (FP_UNLIKELY(given <= 0)) {
        if (given < 0) return given;
        (void)fp_slot_move(slot, FP_IDLE, FP_CHECKING);
        if (fp_counts_leases(c)) fp_dispatch_locked(c); /* its permit is free, before it is closed */
        return 0;
    }
    uint32_t gate = fp_gate(c); /* after the lease is given back: see the proof in core.h */
    if (FP_UNLIKELY(given == 2)) *notify = 1;
    if (FP_UNLIKELY(gate & (FP_GETTERS | FP_NOTICE | FP_CLOSED | FP_NOTIFY | FP_USED | FP_RECALL))) {
        if (gate & FP_GETTERS || fp_head_is_late(c, gate)) fp_dispatch_locked(c);
        *notify |= (gate & (FP_CLOSED | FP_NOTIFY | FP_USED | FP_RECALL)) != 0;
    }
    return 1;
}

/* What a borrower in the slow path has been granted: 1 when the manager has to look at it first. */
static inline int fp_sharing_due(fp_slot *slot) {
    return fp_state(fp_load(&slot->word, acquire)) == FP_LEASED;
}

static inline int fp_begin(fp_core *c, fp_slot *slot) {
    return c->use == FP_SHARING ? fp_sharing_due(slot) : fp_pool_begin(c, slot);
}

/* Lends a CHECKING resource, or one taken alone, with so many leases of it taken already, and serves
 * the queue.  Under the lock.  0: it is to be closed, or the pool is; with no lease of it it is the
 * caller's still, else that of whoever gives the last one back. */
static int fp_sharing_lend(fp_core *c, fp_slot *slot, unsigned from, uint32_t leases) {
    uint64_t word = fp_load(&slot->word, relaxed);
    int good = !(word & FP_RETIRE) && !(fp_gate(c) & FP_CLOSED);
    if (good && fp_uses_of(fp_load(&slot->load, relaxed)) >= c->loads.most_uses) {
        fp_slot_retire(slot);
        good = 0;
    }
    if (!good && leases == 0) return 0;
    if (!fp_slot_move(slot, from, FP_IDLE)) return 0;
    fp_load_open(slot, leases, good);
    (void)fp_slot_unborrow(slot); /* it is one of the leases now, or has none */
    if (good) fp_dispatch(c);
    return good;
}

/* The borrower for whom a resource was taken out does not get it: its permit is the next one's. */
static void fp_sharing_unborrow(fp_core *c, fp_slot *slot) {
    if (!fp_slot_unborrow(slot)) return;
    c->spent = 1;
    fp_dispatch(c);
}

/* The same of any pool, outside the lock. */
static void fp_unborrow_locked(fp_core *c, fp_slot *slot) {
    if (c->use != FP_SHARING) return;
    fp_defer_begin();
    fp_lock_take(&c->lock);
    fp_sharing_unborrow(c, slot);
    fp_lock_drop(&c->lock);
    fp_defer_end();
}

/* CHECKING -> CLOSING, of any pool; 0: somebody else did that. */
static int fp_retire(fp_core *c, fp_slot *slot) {
    if (!fp_slot_move(slot, FP_CHECKING, FP_CLOSING)) return 0;
    fp_unborrow_locked(c, slot);
    return 1;
}

/* So many leases there may be from here on, by permits of a budget; how many there are.  `notify`: the
 * manager hears of each return; it does while there are more.  The bit is set before they are counted, so
 * the manager hears of whatever comes back later. */
static size_t fp_sharing_permit(fp_core *c, size_t n, int notify) {
    size_t draining;
    c->most_leases = n;
    fp_gate_set(c, FP_PERMITS | FP_RECALL);
    size_t leases = fp_count_leases(&c->slots, &c->loads, &draining);
    if (!notify && leases <= n) fp_gate_clear(c, FP_RECALL);
    fp_dispatch(c);
    return leases;
}

/* From here on it takes no more leases.  1: it has none, and is CHECKING now and the caller's; 0: others
 * see to it.  Under the lock, or it might be lent just after it was looked at. */
static int fp_sharing_bar(fp_core *c, fp_slot *slot) {
    unsigned state = fp_state(fp_load(&slot->word, relaxed));
    if (state == FP_FREE_SLOT || state == FP_CLOSING) return 0;
    fp_slot_retire(slot);
    return fp_load_bar(slot) && fp_slot_move(slot, FP_IDLE, FP_CHECKING);
}

/* A resource that nobody uses, for whoever has to look at it: CHECKING, and the caller's; or 0. */
static inline int fp_sharing_claim(fp_slot *slot) {
    return fp_load_shut(slot) && fp_slot_move(slot, FP_IDLE, FP_CHECKING);
}

/* Takes a resource from all who have leases of it, which end with this: CHECKING, and the caller's; or
 * 0.  For a pool that is closed, where nothing is lent from here on. */
static inline int fp_sharing_seize(fp_slot *slot) {
    uint64_t load = fp_load(&slot->load, relaxed);
    while (!fp_cas(&slot->load, &load, load & ~(FP_OPEN | FP_LOAD), acq_rel)) continue;
    return fp_slot_move(slot, FP_IDLE, FP_CHECKING) || fp_slot_move(slot, FP_LEASED, FP_CHECKING);
}

/* A reserved slot will be looked at by those who pick.  Under the lock. */
static inline void fp_sharing_reserved(fp_core *c, fp_slot *slot) {
    if (slot->index >= fp_load(&c->loads.top, relaxed))
        fp_store(&c->loads.top, slot->index + 1, release); /* pairs with the acquire of a pick */
}

/* How many leases there were of it at most since this was asked last. */
static inline uint32_t fp_sharing_peak(fp_slot *slot) {
    uint32_t peak = fp_load(&slot->peak, relaxed);
    fp_store(&slot->peak, fp_load_of(fp_load(&slot->load, relaxed)), relaxed);
    return peak;
}

static inline void fp_sharing_penalized_until(fp_core *c, int64_t until) {
    int64_t latest = fp_load(&c->loads.penalty_until, relaxed);
    while (latest < until && !fp_cas(&c->loads.penalty_until, &latest, until, relaxed)) continue;
}

/* While it is being closed, and after that, the word of the penalty says other things. */
static inline int fp_sharing_is_gone(fp_slot *slot) {
    unsigned state = fp_state(fp_load(&slot->word, relaxed));
    return state == FP_FREE_SLOT || state == FP_CLOSING;
}

/* Until then it counts as more loaded than it is.  Under the lock. */
static inline void fp_sharing_penalize(fp_core *c, fp_slot *slot, int64_t span) {
    int64_t until = fp_later(fp_now(c), span);
    if (until == FP_NEVER) until--; /* that means another thing */
    if (fp_sharing_is_gone(slot) || fp_load(&slot->penalized_until, relaxed) == FP_NEVER) return;
    fp_store(&slot->penalized_until, until, relaxed);
    fp_sharing_penalized_until(c, until);
}

/* No leases of it from here on, or again.  Under the lock; who joins the queue does so under it too,
 * and so either finds it lent again or is served by this dispatch. */
static void fp_sharing_avoid(fp_core *c, fp_slot *slot, int on) {
    if (fp_sharing_is_gone(slot)) return;
    fp_store(&slot->penalized_until, on ? FP_NEVER : 0, relaxed);
    if (on) {
        fp_sharing_penalized_until(c, FP_NEVER);
        return;
    }
    int64_t latest = 0;
    uint32_t top = fp_load(&c->loads.top, relaxed);
    for (uint32_t i = 0; i < top; i++) {
        fp_slot *other = fp_slots_at(&c->slots, i);
        int64_t until = fp_sharing_is_gone(other) ? 0 : fp_load(&other->penalized_until, relaxed);
        if (until > latest) latest = until;
    }
    fp_store(&c->loads.penalty_until, latest, relaxed); /* penalties come under the lock too */
    fp_dispatch(c);
}

#endif
