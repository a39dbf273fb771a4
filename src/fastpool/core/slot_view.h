/* Reading and marking slots from outside the hot path. */
#ifndef FASTPOOL_SLOT_VIEW_H
#define FASTPOOL_SLOT_VIEW_H

#include "core.h"

static inline void *fp_load_item(fp_slot *s) { return fp_load(&s->item, acquire); }
static inline unsigned fp_slot_state(fp_slot *s) { return fp_state(fp_load(&s->word, acquire)); }
static inline uint64_t fp_slot_word(fp_slot *s) { return fp_load(&s->word, acquire); }
static inline uint64_t fp_slot_generation(fp_slot *s) {
    return fp_generation(fp_load(&s->word, acquire));
}
static inline uint32_t fp_slot_uses(fp_core *c, fp_slot *s) {
    return c->use == FP_SHARING ? fp_uses_of(fp_load(&s->load, relaxed)) : fp_load(&s->uses, relaxed);
}
/* How many leases there are of it. */
static inline uint32_t fp_slot_leases(fp_core *c, fp_slot *s) {
    if (c->use == FP_SHARING) return fp_load_of(fp_load(&s->load, relaxed));
    return fp_state(fp_load(&s->word, relaxed)) == FP_LEASED;
}
static inline void fp_slot_own(fp_slot *s, uintptr_t token) { fp_store(&s->owner, token, relaxed); }
static inline uintptr_t fp_slot_owner(fp_slot *s) { return fp_load(&s->owner, relaxed); }
/* Whether the slot is lent still as it was: `generation` is of that lease. */
static inline int fp_slot_lent(fp_core *c, fp_slot *s, uint64_t generation) {
    uint64_t word = fp_load(&s->word, acquire);
    if (fp_generation(word) != generation) return 0;
    return fp_state(word) == FP_LEASED || (c->use == FP_SHARING && fp_state(word) == FP_IDLE);
}
static inline uint64_t fp_id_of(fp_core *c) { return fp_load(&c->id, relaxed); }

/* The resource has just been looked at: nothing to ask for another while. */
static void fp_slot_freshen(fp_core *c, fp_slot *slot) {
    fp_store(&slot->stale_at, fp_later(fp_now(c), fp_load(&c->fresh_for, relaxed)), relaxed);
}

/* Ages are kept in 64ths of a second, in 32 bits, so up to two years: a slot is one cache line. */
#define FP_MADE(ns) ((uint32_t)((uint64_t)(ns) / (1000000000 / 64)))

/* For so many seconds the resource of a slot has been there. */
static double fp_slot_age(fp_core *c, fp_slot *slot) {
    uint32_t made = fp_load(fp_slots_made(&c->slots, slot->index), relaxed);
    return (uint32_t)(FP_MADE(fp_now(c)) - made) / 64.0;
}

/* RETIRE, if it is lent still as it was: `generation` is of that lease. */
static void fp_slot_retire_own(fp_slot *slot, uint64_t generation) {
    uint64_t word = fp_load(&slot->word, relaxed);
    while (fp_generation(word) == generation && fp_state(word) == FP_LEASED)
        if (fp_cas(&slot->word, &word, word | FP_RETIRE, acq_rel)) return;
}

/* A new resource; the slot is the caller's and not yet published. */
static void fp_slot_fill(fp_core *c, fp_slot *slot, int64_t lifetime) {
    int64_t now = fp_now(c);
    fp_store(fp_slots_made(&c->slots, slot->index), FP_MADE(now), relaxed);
    fp_store(&slot->uses, 0, relaxed); /* or the peak */
    fp_store(&slot->since, now, relaxed);
    fp_store(&slot->dies_at, fp_later(now, lifetime), relaxed);
    fp_store(&slot->penalized_until, 0, relaxed); /* or `sampled` */
    fp_slot_freshen(c, slot);
}

#define FP_EACH_SLOT(c, slot)                                                                   \
    for (uint32_t k_ = 0, used_ = fp_load(&(c)->slots.used, acquire); k_ < used_; k_++)         \
        for (fp_segment *seg_ = fp_load(&(c)->slots.segments[k_], acquire), *once_ = seg_;      \
             once_ != NULL; once_ = NULL)                                                       \
            for (fp_slot *slot = seg_->slots; slot < seg_->slots + seg_->size; slot++)

/* RETIRE on up to `most` open slots that are not marked already, or only on lent ones; how many were
 * marked. */
static size_t fp_mark_retire(fp_core *c, size_t most, int lent) {
    size_t marked = 0;
    FP_EACH_SLOT(c, slot) {
        uint64_t word = fp_load(&slot->word, relaxed);
        while (marked < most && !(word & FP_RETIRE) &&
               (lent ? fp_state(word) == FP_LEASED
                     : fp_state(word) != FP_FREE_SLOT && fp_state(word) != FP_CLOSING))
            if (fp_cas(&slot->word, &word, word | FP_RETIRE, acq_rel)) {
                marked++;
                break;
            }
    }
    return marked;
}

/* An idle slot as CHECKING; 0: it was not idle. */
static inline int fp_end_idle(fp_core *c, fp_slot *slot) {
    return fp_idle_pick(&c->slots, slot) && fp_slot_move(slot, FP_LEASED, FP_CHECKING);
}

/* Whether at least `least` are idle in a pool that is not shared.  Looks at the slots only where there
 * are as many entries, and where those may be out of date.  Under the lock. */
static int fp_has_idle(fp_core *c, size_t least) {
    size_t idle = fp_idle_entries(&c->slots);
#if FP_ATOMIC
    if (least == 0 || idle < least) return least == 0;
    idle = 0;
    FP_EACH_SLOT(c, slot) {
        if (idle == least) return 1;
        idle += fp_state(fp_load(&slot->word, relaxed)) == FP_IDLE;
    }
#endif
    return idle >= least;
}

typedef struct {
    uint32_t index, uses;
    int state, retire;
    int64_t since, dies_at, stale_at;
    uintptr_t owner;
    uint32_t leases;
} fp_view;

static void fp_view_of(fp_core *c, fp_slot *slot, fp_view *view) {
    uint64_t word = fp_load(&slot->word, acquire);
    view->index = slot->index;
    view->state = (int)fp_state(word);
    view->retire = (word & FP_RETIRE) != 0;
    view->uses = fp_slot_uses(c, slot);
    view->leases = fp_slot_leases(c, slot);
    view->since = fp_load(&slot->since, relaxed);
    view->dies_at = fp_load(&slot->dies_at, relaxed);
    view->stale_at = fp_load(&slot->stale_at, relaxed);
    view->owner = c->use == FP_SHARING ? 0 : fp_load(&slot->owner, relaxed);
    if (view->state == FP_IDLE && view->leases != 0) view->state = FP_LEASED;
}

static fp_view *fp_views_new(size_t n) { return (fp_view *)FP_MALLOC((n + 1) * sizeof(fp_view)); }
static void fp_views_free(fp_view *views) { FP_FREE(views); }

/* Under the lock.  The number of open slots, which may be more than there is room for. */
static size_t fp_views_fill(fp_core *c, fp_view *views, size_t n_views) {
    size_t n = 0;
    FP_EACH_SLOT(c, slot)
    if (fp_state(fp_load(&slot->word, relaxed)) != FP_FREE_SLOT) {
        if (n < n_views) fp_view_of(c, slot, &views[n]);
        n++;
    }
    return n;
}

typedef struct {
    size_t by_state[FP_STATES];
    size_t open, waiting;
    size_t leases, draining; /* sharing: leases under way; resources in use that take no more */
    uint64_t uses;
    uint64_t closed_for[16]; /* resources, by the number of the reason */
    uint64_t counted[4];
    fp_times waits, held, creates;
} fp_counts;

/* Under the lock: slots become free and stop being free only there, so the states add up. */
static void fp_count(fp_core *c, fp_counts *n) {
    memset(n, 0, sizeof *n);
    n->uses = c->retired_uses;
    FP_EACH_SLOT(c, slot) {
        uint64_t word = fp_load(&slot->word, relaxed);
        unsigned state = fp_state(word);
        if (c->use == FP_SHARING && state != FP_FREE_SLOT) {
            uint64_t load = fp_load(&slot->load, relaxed); /* once: it changes meanwhile */
            n->uses += fp_uses_of(load);
            if (state == FP_IDLE && fp_load_of(load) != 0) {
                state = FP_LEASED;
                n->leases += fp_load_of(load);
                n->draining += word & FP_RETIRE && !(load & FP_OPEN);
            }
        } else if (state != FP_FREE_SLOT) {
            n->uses += fp_load(&slot->uses, relaxed);
        }
        n->by_state[state]++;
    }
    n->open = c->open;
    n->waiting = c->getters.count;
    memcpy(n->closed_for, c->closed_for, sizeof n->closed_for);
    memcpy(n->counted, c->counted, sizeof n->counted);
    n->waits = c->waits;
    n->held = c->held;
    n->creates = c->creates;
}

#endif
