/* How many leases each resource of a shared pool carries, and which of them carries least.
 *
 * Plain C11, on top of the slot table of ring.h.  One word a resource is the whole truth about its
 * leases, and each of its changes is one compare-and-swap:
 *
 *   bits 0-30   leases under way
 *   bit  31     OPEN: takes more of them
 *   bits 32-63  leases so far
 *
 * A lease is counted when its resource is picked, so any number of callers who pick at once see each
 * other (choosing first and counting later let hundreds of calls pile up on one connection of Google's
 * clients).  Whoever clears OPEN while nobody holds a lease owns the slot; otherwise the last one to
 * give a lease back does.  So a resource is never closed in use, and is closed by one party only.
 *
 * The slot's `word` says what it says in any pool, but for three states:
 *   IDLE      among those that are lent, whatever their number of leases
 *   LEASED    taken out by one borrower, who has to have it looked at before others may share it
 *   CHECKING  as ever; the load is 0 and not OPEN
 */
#ifndef FASTPOOL_LEASE_COUNTS_H
#define FASTPOOL_LEASE_COUNTS_H

#include "../platform/clock.h"
#include "slot_table.h"

#define FP_OPEN ((uint64_t)1 << 31)
#define FP_LOAD (FP_OPEN - 1)
#define FP_ONE_USE ((uint64_t)1 << 32)
#define fp_load_of(load) ((uint32_t)((load) & FP_LOAD))
#define fp_uses_of(load) ((uint32_t)((load) >> 32))

enum { FP_MOST_SLOTS = 1 << 30 }; /* of one resource */

typedef struct {
    uint32_t slots;               /* leases of one resource at most */
    uint32_t most_uses;           /* so many, and it takes no more; UINT32_MAX: no limit */
    uint32_t penalty;             /* as how many leases an error counts */
    FP_SHARED(uint32_t) top;      /* slots from here on have never been used; writer: the lock */
    FP_SHARED(int64_t) penalty_until; /* ns; the latest end of a penalty; 0: there never was one.
                                      FP_NEVER while a resource is avoided */
} fp_loads;

/* Notes the most leases at once.  A mark that is overwritten by a lower one at the same moment costs a
 * resource that is closed a period earlier than it would have been. */
static inline void fp_load_peak(fp_slot *slot, uint32_t n) {
    if (n > fp_load(&slot->peak, relaxed)) fp_store(&slot->peak, n, relaxed);
}

/* Takes one slot of a resource if it has the load that the caller saw; else `*load` is its load now.
 * The last use that it is good for closes it to others, and after that it is one of those that drain.
 * acquire: pairs with the release of fp_load_open, behind which the resource was written. */
static inline int fp_load_take(fp_loads *l, fp_slot *slot, uint64_t *load) {
    uint64_t next = *load + FP_ONE_USE + 1;
    if (FP_UNLIKELY(fp_uses_of(next) >= l->most_uses)) next &= ~FP_OPEN;
    if (!fp_cas(&slot->load, load, next, acq_rel)) return 0;
    if (FP_UNLIKELY(!(next & FP_OPEN))) fp_slot_retire(slot);
    fp_load_peak(slot, fp_load_of(next));
    return 1;
}

/* Whether the lease that the caller has just taken was the last one that the resource is good for.  May
 * say yes for one that was taken out of service in between. */
static inline int fp_is_spent(fp_loads *l, fp_slot *slot) {
    if (FP_LIKELY(l->most_uses == UINT32_MAX)) return 0;
    uint64_t load = fp_load(&slot->load, relaxed);
    return !(load & FP_OPEN) && fp_load_of(load) != 0;
}

/* Takes a resource that nobody uses out of what is lent: OPEN goes and the slot is the caller's. */
static inline int fp_load_shut(fp_slot *slot) {
    uint64_t load = fp_load(&slot->load, relaxed);
    do {
        if ((load & (FP_OPEN | FP_LOAD)) != FP_OPEN) return 0;
    } while (!fp_cas(&slot->load, &load, load & ~FP_OPEN, acq_rel));
    return 1;
}

/* No more leases of it.  1: nobody had one, and the slot is the caller's; else it belongs to whoever
 * gives the last one back, or to whoever has it now. */
static inline int fp_load_bar(fp_slot *slot) {
    uint64_t load = fp_load(&slot->load, relaxed);
    do {
        if (!(load & FP_OPEN)) return 0;
    } while (!fp_cas(&slot->load, &load, load & ~FP_OPEN, acq_rel));
    return fp_load_of(load) == 0;
}

/* For the owner of a slot: lends it, with `leases` of it taken already.
 * seq_cst: the store half of the store-load pair with the gate (see core.h). */
static inline void fp_load_open(fp_slot *slot, uint64_t leases, int open) {
    uint64_t load = fp_load(&slot->load, relaxed);
    load = (load & ~(FP_OPEN | FP_LOAD)) | leases | (open ? FP_OPEN : 0);
    fp_load_peak(slot, (uint32_t)leases);
    fp_store(&slot->load, load, seq_cst);
}

/* Gives one lease back.  1: done; 2: likewise, but the resource takes no more; 0: it was the last one of
 * such a resource, and the slot is the caller's; -1: nobody has one.
 * seq_cst: as above; release for whoever closes it, behind everything done with the resource. */
static inline int fp_load_give(fp_slot *slot) {
    uint64_t load = fp_load(&slot->load, relaxed);
    do {
        if (FP_UNLIKELY((load & FP_LOAD) == 0)) return -1;
    } while (!fp_cas(&slot->load, &load, load - 1, seq_cst));
    return FP_LIKELY(load & FP_OPEN) ? 1 : fp_load_of(load) == 1 ? 0 : 2;
}

/* The least loaded resource that has room, the lowest number among equals; NULL: none had when it was
 * looked at.  `now`: for penalties.
 * seq_cst: the load half of the store-load pair of a waiter that has set its bit in the gate. */
static inline fp_slot *fp_least_loaded(fp_slots *t, fp_loads *l, int64_t now, uint64_t *load) {
    fp_slot *best = NULL;
    uint64_t least = UINT64_MAX;
    uint32_t top = fp_load(&l->top, acquire);
    for (uint32_t k = 0, first = 0; first < top; k++) {
        fp_segment *segment = fp_load(&t->segments[k], acquire);
        uint32_t size = top - first < segment->size ? top - first : segment->size;
        for (fp_slot *slot = segment->slots; slot < segment->slots + size; slot++) {
            uint64_t seen = fp_load(&slot->load, seq_cst);
            uint64_t weight = fp_load_of(seen);
            if (!(seen & FP_OPEN) || weight >= l->slots) continue;
            if (FP_UNLIKELY(now != 0)) {
                int64_t until = fp_load(&slot->penalized_until, relaxed);
                if (until == FP_NEVER) continue;
                if (now < until) weight += l->penalty;
            }
            if (weight < least) {
                best = slot;
                least = weight;
                *load = seen;
            }
        }
        first += segment->size;
    }
    return best;
}

/* Picks and counts.  `stale`: ns; a resource that nobody uses and whose time for a check has come by
 * then is taken out of what is lent, and is in state LEASED; 0: no checks. */
static inline fp_slot *fp_least_take(fp_slots *t, fp_loads *l, int64_t now, int64_t stale) {
    uint64_t load = 0;
    fp_slot *slot;
    while ((slot = fp_least_loaded(t, l, now, &load)) != NULL) {
        if (FP_UNLIKELY(stale != 0) && fp_load_of(load) == 0 &&
            stale >= fp_load(&slot->stale_at, relaxed)) {
            if (fp_cas(&slot->load, &load, (load & ~FP_OPEN) + FP_ONE_USE, acq_rel)) {
                int moved = fp_slot_move(slot, FP_IDLE, FP_LEASED);
                FP_ASSERT(moved);
                (void)moved;
                return slot;
            }
        } else if (fp_load_take(l, slot, &load)) {
            return slot;
        }
    }
    return NULL;
}

/* Slots that are free in what is lent, at most `most`, and in `*arriving` those of resources that are
 * being looked at and will be lent again.  Under the lock. */
static size_t fp_free_slots(fp_slots *t, fp_loads *l, size_t most, size_t *pending) {
    size_t n = 0;
    uint32_t top = fp_load(&l->top, relaxed);
    *pending = 0;
    for (uint32_t i = 0; i < top && n < most; i++) {
        fp_slot *slot = fp_slots_at(t, i);
        uint64_t load = fp_load(&slot->load, seq_cst);
        uint64_t word = fp_load(&slot->word, acquire);
        unsigned state = fp_state(word);
        if (fp_load(&slot->penalized_until, relaxed) == FP_NEVER) continue;
        if (state == FP_IDLE && load & FP_OPEN && fp_load_of(load) < l->slots)
            n += l->slots - fp_load_of(load);
        else if ((state == FP_LEASED || state == FP_CHECKING) && !(word & FP_RETIRE))
            *pending += l->slots;
    }
    return n;
}

/* Leases of all resources; in `*draining` those of resources that are to be closed and take no more.  A
 * borrower who has a resource looked at counts as a lease.  Under the lock, and where leases are given
 * only under it: then there are never more than this, since returns only make them fewer.
 * seq_cst: the load half of the store-load pair of a waiter that has set its bit in the gate. */
static size_t fp_count_leases(fp_slots *t, fp_loads *l, size_t *draining) {
    size_t n = 0;
    uint32_t top = fp_load(&l->top, relaxed);
    *draining = 0;
    for (uint32_t i = 0; i < top; i++) {
        fp_slot *slot = fp_slots_at(t, i);
        uint64_t word = fp_load(&slot->word, acquire);
        if (fp_state(word) == FP_IDLE) {
            uint64_t load = fp_load(&slot->load, seq_cst);
            n += fp_load_of(load);
            if (word & FP_RETIRE && !(load & FP_OPEN)) *draining += fp_load_of(load);
        } else if (word & FP_BORROWED) {
            n++;
        }
    }
    return n;
}

/* Resources that are to be closed, take no more leases and are still in use: what the cap does not
 * count.  Not every one that is not OPEN: it may be about to be looked at.  Under the lock. */
static size_t fp_draining(fp_slots *t, fp_loads *l) {
    size_t n = 0;
    uint32_t top = fp_load(&l->top, relaxed);
    for (uint32_t i = 0; i < top; i++) {
        fp_slot *slot = fp_slots_at(t, i);
        uint64_t word = fp_load(&slot->word, acquire);
        n += fp_state(word) == FP_IDLE && word & FP_RETIRE &&
             !(fp_load(&slot->load, relaxed) & FP_OPEN);
    }
    return n;
}

#endif
