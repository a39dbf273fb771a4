/* What a caller has to enter, to use and to end: a lease, of a pool or of a shared one.
 *
 * Plain C11.  Two threads may do any of that with one lease at once.  So how far it has come is one
 * word, and each of its changes is one compare-and-swap, which decides:
 *
 *   FRESH -> FILLING -> HELD or BLOCK -> RELEASED or DISCARDED        HELD -> BLOCK
 *
 * FILLING belongs to whoever has a slot for it and writes down which; others take it for FRESH.  From
 * HELD on those fields stay as they are, and say who has lent what: if the block has another id by now,
 * the pool is gone, or the parent's of this process, and the slot is not looked at; if the slot has
 * another generation, its resource was given back by another way.  So a lease keeps nothing alive.
 * With a GIL nobody is in the middle of that; else it is right because the memory of a block, and of
 * its slots, is never given back, an id is never used twice, and generations only grow.
 */
#ifndef FASTPOOL_LEASE_H
#define FASTPOOL_LEASE_H

#include "shared_pool.h"
#include "slot_view.h"

enum {
    FP_LEASE_FRESH,
    FP_LEASE_FILLING,
    FP_LEASE_HELD,
    FP_LEASE_BLOCK, /* held by a `with` block */
    FP_LEASE_RELEASED,
    FP_LEASE_DISCARDED,
};

typedef struct {
    FP_SHARED(fp_core *) c; /* of the pool, and from HELD on of the slot; these two: FILLING's */
    FP_SHARED(uint64_t) id;
    fp_slot *slot;          /* these two: FILLING's, and read from HELD on */
    uint64_t generation;
    int64_t timeout_ns;     /* ns to wait at most; written once */
    FP_SHARED(int) state;
} fp_lease;

static inline void fp_lease_init(fp_lease *l, fp_core *c, int64_t timeout_ns) {
    fp_store(&l->c, c, relaxed);
    fp_store(&l->id, fp_id_of(c), relaxed);
    l->timeout_ns = timeout_ns;
}

/* acquire: pairs with the release in fp_lease_hold; else who finds it held reads an older slot. */
static inline int fp_lease_state(fp_lease *l) { return fp_load(&l->state, acquire); }
static inline int fp_lease_is_fresh(fp_lease *l) { return fp_lease_state(l) <= FP_LEASE_FILLING; }
static inline int fp_is_held(int state) {
    return state == FP_LEASE_HELD || state == FP_LEASE_BLOCK;
}
static inline int fp_lease_is_held(fp_lease *l) { return fp_is_held(fp_lease_state(l)); }

static inline fp_core *fp_lease_core(fp_lease *l) { return fp_load(&l->c, relaxed); }
/* acquire: pairs with the release in fp_lease_hold; else who reads the id of another core takes the
 * lease for fresh. */
static inline uint64_t fp_lease_id(fp_lease *l) { return fp_load(&l->id, acquire); }

/* Whether what it is of is still there, and this process's. */
static inline int fp_lease_is_live(fp_lease *l) {
    return fp_id_of(fp_lease_core(l)) == fp_lease_id(l);
}

/* 0: it was not in `from`. */
static inline int fp_lease_move(fp_lease *l, int from, int to) {
    int state = fp_load(&l->state, relaxed);
    do {
        if (FP_UNLIKELY(state != from)) return 0;
    } while (!fp_cas(&l->state, &state, to, acq_rel));
    return 1;
}

/* Where it is filled: its slot, of which the caller was the owner. */
static inline void fp_lease_fill(fp_lease *l, fp_core *c, uint64_t id, fp_slot *slot,
                                 uint64_t generation) {
    fp_store(&l->c, c, relaxed);
    fp_store(&l->id, id, release);
    l->slot = slot;
    l->generation = generation;
}

/* Gives it the caller's slot.  0: it has been entered by somebody else, and the slot is the caller's
 * still. */
static inline int fp_lease_hold(fp_lease *l, fp_core *c, uint64_t id, fp_slot *slot,
                                uint64_t generation, int state) {
    if (FP_UNLIKELY(!fp_lease_move(l, FP_LEASE_FRESH, FP_LEASE_FILLING))) return 0;
    fp_lease_fill(l, c, id, slot, generation);
    fp_store(&l->state, state, release);
    return 1;
}

/* Ends it.  0: it was not held, or somebody else has ended it; else its slot, if that is its own
 * still, is the caller's to give back. */
static inline int fp_lease_end(fp_lease *l, int to) {
    int state = fp_lease_state(l);
    do {
        if (FP_UNLIKELY(!fp_is_held(state))) return 0;
    } while (!fp_cas(&l->state, &state, to, acq_rel));
    return 1;
}

/* What it has lent.  NULL: it is not held, or its resource was given back by another way.  Under the
 * lock of its core, under which a resource is taken out of its slot: the caller makes it its own. */
static inline void *fp_lease_item(fp_lease *l) {
    if (!fp_lease_is_held(l) || !fp_lease_is_live(l)) return NULL;
    if (!fp_slot_lent(fp_lease_core(l), l->slot, l->generation)) return NULL;
    return fp_load_item(l->slot);
}

/* ---- Of a shared pool ---- */

typedef struct {
    fp_lease of;
    uint64_t ticket; /* under which the manager knows it; 0: it does not.  These two: FILLING's */
    int64_t since;   /* precise ns; start of a use that is measured here, else 0 */
} fp_share;

/* As fp_lease_hold. */
static inline int fp_share_hold(fp_share *l, fp_core *c, uint64_t id, fp_slot *slot,
                                uint64_t ticket, int state) {
    if (FP_UNLIKELY(!fp_lease_move(&l->of, FP_LEASE_FRESH, FP_LEASE_FILLING))) return 0;
    fp_lease_fill(&l->of, c, id, slot, fp_slot_generation(slot));
    uint32_t uses = fp_uses_of(fp_load(&slot->load, relaxed));
    l->ticket = ticket;
    l->since = FP_UNLIKELY(uses % FP_SAMPLE == 1 && ticket == 0) ? fp_clock_precise() : 0;
    fp_store(&l->of.state, state, release);
    return 1;
}

static FP_COLD void fp_share_measured(fp_share *l) {
    fp_core *c = fp_lease_core(&l->of);
    int64_t used = fp_clock_precise() - l->since;
    fp_lock_take(&c->lock);
    fp_used(c, used);
    fp_lock_drop(&c->lock);
}

/* Ends it.  -1: it was not held, or somebody else has ended it; 0: with no slot to be given back: its
 * pool is gone, or the resource is, since somebody has put back more than was taken; 1: its slot is the
 * caller's to give back. */
static inline int fp_share_end(fp_share *l, int to) {
    if (FP_UNLIKELY(!fp_lease_end(&l->of, to))) return -1;
    if (FP_UNLIKELY(!fp_lease_is_live(&l->of))) return 0;
    if (FP_UNLIKELY(fp_slot_generation(l->of.slot) != l->of.generation)) return 0;
    if (FP_UNLIKELY(l->since != 0)) fp_share_measured(l);
    return 1;
}

#endif
