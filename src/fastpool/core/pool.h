/* Pool use: a hit, a return, and the times that they note.  Plain C11. */
#ifndef FASTPOOL_POOL_H
#define FASTPOOL_POOL_H

#include "core.h"

#if FP_ATOMIC
/* The slot a thread returned last, per pool.  The pool's id is never used again, so a hint of a
 * pool that is gone can never match; while it matches, the pool is alive, and slots never move. */
typedef struct {
    uint64_t id;
    fp_slot *slot;
} fp_hint;
static _Thread_local fp_hint fp_hints[4];
#define fp_hint_of(id) (&fp_hints[(id)&3])
#endif

/* An idle slot as LEASED, or NULL.  The gate has been looked at. */
FP_INLINE fp_slot *fp_pool_take(fp_core *c) {
#if FP_ATOMIC
    uint64_t id = fp_load(&c->id, relaxed);
    fp_hint *hint = fp_hint_of(id);
    if (hint->id == id && c->lifo && fp_slot_take(hint->slot, 0)) return hint->slot;
    fp_slot *slot = fp_idle_take(&c->slots, c->lifo);
    if (slot != NULL) {
        hint->id = id;
        hint->slot = slot;
    }
    return slot;
#else
    return fp_idle_take(&c->slots, c->lifo);
#endif
}

/* One use in so many is measured with the precise clock; none where leases are tracked, since there
 * the manager measures all of them. */
enum { FP_SAMPLE = 128 };

static FP_COLD void fp_pool_sample(fp_slot *slot) { slot->sampled = fp_clock_precise(); }

/* Books the lease that has begun.  1 when the manager has to be asked: a check may be
 * due. */
FP_INLINE int fp_pool_begin(fp_core *c, fp_slot *slot) {
    uint32_t uses = fp_load(&slot->uses, relaxed) + 1;
    fp_store(&slot->uses, uses, relaxed);
    if (FP_UNLIKELY(uses % FP_SAMPLE == 1) && !(fp_gate(c) & FP_ASK_GET)) fp_pool_sample(slot);
    fp_store(&slot->owner, fp_thread_token(), relaxed);
#if !FP_ATOMIC
    c->last = slot;
#endif
    /* The scheduler takes expired ones away as they expire; only the freshness window of a check
     * has to be looked at here. */
    return c->has_check && fp_now(c) >= fp_load(&slot->stale_at, relaxed);
}

/* Whether the slot may go back to the idle ones without a question; records the return.
 * Only the holder calls this, before it publishes the slot. */
FP_INLINE int fp_pool_end(fp_core *c, fp_slot *slot) {
    if (FP_LIKELY(fp_load(&c->timed, relaxed))) {
        int64_t now = fp_now(c);
        if (FP_UNLIKELY(now >= fp_load(&slot->dies_at, relaxed))) return 0;
        fp_store(&slot->since, now, relaxed);
        if (c->has_check) fp_store(&slot->stale_at, fp_later(now, fp_load(&c->fresh_for, relaxed)),
                             relaxed);
    }
    return 1;
}

/* A lease that costs one look at the gate and one at the slot, and with a check hook one at the coarse
 * clock.  NULL: take the slow path; *due is a slot taken about which the manager has to be asked. */
FP_INLINE fp_slot *fp_pool_hit(fp_core *c, fp_slot **due) {
    if (FP_UNLIKELY(fp_gate(c) & FP_GET_SLOW)) return NULL;
    fp_slot *slot = fp_pool_take(c);
    if (FP_UNLIKELY(slot == NULL)) return NULL;
    if (FP_LIKELY(fp_pool_begin(c, slot) == 0)) return slot;
    *due = slot;
    return NULL;
}

/* Publishes a slot that is in state `from`; 0 if it may not become idle (see fp_slot_idle). */
FP_INLINE int fp_pool_publish(fp_core *c, fp_slot *slot, unsigned from, uint64_t word) {
    int push = fp_slot_idle(slot, from, word);
    if (FP_UNLIKELY(push < 0)) return 0;
    if (push) fp_idle_push(&c->slots, slot);
    return 1;
}

/* One measured use in so many is told to listeners, by the next return that may call Python. */
enum { FP_REPORTED = 8 };

/* A use was measured.  Under the lock. */
static void fp_used(fp_core *c, int64_t used) {
    fp_times_add(&c->held, used);
    if (fp_load(&c->listened, relaxed) && c->held.count % FP_REPORTED == 0) {
        c->used = used;
        fp_gate_set(c, FP_USED);
    }
}

/* What is to be told of, once; -1: nothing. */
static int64_t fp_used_take(fp_core *c) {
    fp_lock_take(&c->lock);
    int64_t used = fp_gate(c) & FP_USED ? c->used : -1;
    fp_gate_clear(c, FP_USED);
    fp_lock_drop(&c->lock);
    return used;
}

static FP_COLD void fp_pool_sampled(fp_core *c, fp_slot *slot) {
    int64_t used = fp_clock_precise() - slot->sampled;
    slot->sampled = 0;
    fp_lock_take(&c->lock);
    fp_used(c, used);
    fp_lock_drop(&c->lock);
}

/* The whole of a return.  1: done; 0: the slot is still the holder's, ask the manager; -1: it is not
 * lent, or not by the lease of this generation (0: any).  *notify: the manager has to know, since the pool
 * was closed meanwhile, more may be idle now than are to be, or what came back may be wanted elsewhere. */
FP_INLINE int fp_pool_return(fp_core *c, fp_slot *slot, uint64_t generation, int *notify) {
    uint64_t word = fp_load(&slot->word, relaxed);
    if (FP_UNLIKELY(fp_state(word) != FP_LEASED)) return -1;
    if (FP_UNLIKELY(generation && fp_generation(word) != generation)) return -1;
    if (FP_UNLIKELY(fp_gate(c) & (FP_CLOSED | FP_ASK_PUT))) return 0;
    if (FP_UNLIKELY(slot->sampled != 0)) fp_pool_sampled(c, slot);
    if (FP_UNLIKELY(!fp_pool_end(c, slot))) return 0;
    /* or the next look for a deadlock takes a slot granted to somebody else for the last holder's */
    fp_store(&slot->owner, 0, relaxed);
    if (FP_UNLIKELY(!fp_pool_publish(c, slot, FP_LEASED, word))) return 0;
    uint32_t gate = fp_gate(c); /* after the publish: see the proof at the head of this file */
    if (FP_UNLIKELY(gate & (FP_GETTERS | FP_NOTICE | FP_CLOSED | FP_NOTIFY | FP_ASK_PUT | FP_USED))) {
        if (gate & FP_GETTERS || fp_head_is_late(c, gate)) fp_dispatch_locked(c);
        *notify = (gate & (FP_CLOSED | FP_NOTIFY | FP_ASK_PUT | FP_USED)) != 0;
    }
    return 1;
}

/* The slot of a resource: a guess first, then the table. */
static inline fp_slot *fp_pool_find(fp_core *c, const void *item) {
#if FP_ATOMIC
    uint64_t id = fp_load(&c->id, relaxed);
    fp_hint *hint = fp_hint_of(id);
    if (hint->id == id && fp_load(&hint->slot->item, relaxed) == item) return hint->slot;
#else
    if (c->last != NULL && fp_load(&c->last->item, relaxed) == item) return c->last;
#endif
    fp_lock_take(&c->lock);
    fp_slot *slot = fp_slots_find(&c->slots, item);
    fp_lock_drop(&c->lock);
#if FP_ATOMIC
    if (slot != NULL) {
        hint->id = id;
        hint->slot = slot;
    }
#endif
    return slot;
}

#endif
