/* A look at the slots of many cores: what the limits over all keys of a KeyedPool ask.
 *
 * Plain C11.  Each look takes the core's lock, for its queue; a slot may change at any moment, so what
 * is found has to be claimed.
 */
#ifndef FASTPOOL_KEYED_POOL_H
#define FASTPOOL_KEYED_POOL_H

#include "slot_view.h"

/* One idle resource; `since` it was returned, on the core's clock. */
typedef struct {
    int64_t since;
    fp_core *core;
    uint32_t index;
} fp_old;

/* Adds the idle slots of a core to the `n` oldest so far, sorted, `most` at most; how many it has.
 * Where callers wait, or are on their way to the queue, it is theirs, and idle but for a moment. */
static size_t fp_oldest_add(fp_core *c, fp_old *oldest, size_t *n, size_t most) {
    size_t idle = 0;
    fp_lock_take(&c->lock);
    if (c->open != 0 && c->getters.count == 0 && c->arriving == 0)
        FP_EACH_SLOT(c, slot) {
            if (fp_state(fp_load(&slot->word, relaxed)) != FP_IDLE) continue;
            idle++;
            fp_old one = {fp_load(&slot->since, relaxed), c, slot->index};
            size_t i = *n;
            if (i < most)
                ++*n;
            else if (most == 0 || one.since >= oldest[--i].since)
                continue;
            for (; i != 0 && oldest[i - 1].since > one.since; i--) oldest[i] = oldest[i - 1];
            oldest[i] = one;
        }
    fp_lock_drop(&c->lock);
    return idle;
}

/* How many slots are lent to blocks of this holder; -1: one is not. */
static int64_t fp_held_by(fp_core *c, uintptr_t holder) {
    int64_t held = 0;
    fp_lock_take(&c->lock);
    if (c->open != 0)
        FP_EACH_SLOT(c, slot) {
            unsigned state = fp_slot_state(slot);
            if (state == FP_FREE_SLOT || held < 0) continue;
            int its = state == FP_LEASED && fp_slot_owner(slot) == (holder | 1);
            held = its ? held + 1 : -1;
        }
    fp_lock_drop(&c->lock);
    return held;
}

/* How many are open but neither idle nor lent to blocks of this holder; ``lent``: of those only the
 * ones that are lent, to others. */
static size_t fp_busy(fp_core *c, uintptr_t holder, int lent) {
    size_t busy = 0;
    fp_lock_take(&c->lock);
    if (c->open != 0)
        FP_EACH_SLOT(c, slot) {
            unsigned state = fp_slot_state(slot);
            if (state == FP_FREE_SLOT || state == FP_IDLE) continue;
            if (lent && state != FP_LEASED) continue;
            busy += state != FP_LEASED || fp_slot_owner(slot) != (holder | 1);
        }
    fp_lock_drop(&c->lock);
    return busy;
}

static void fp_times_sum(fp_times *sum, const fp_times *t) {
    if (t->count == 0) return;
    for (int i = 0; i < FP_TIMES; i++) sum->counts[i] += t->counts[i];
    sum->count += t->count;
    sum->sum += t->sum;
    if (t->most > sum->most) sum->most = t->most;
}

/* One look at a core, added to those at others. */
static void fp_count_more(fp_core *c, fp_counts *n, fp_counts *sum) {
    fp_lock_take(&c->lock);
    fp_count(c, n);
    fp_lock_drop(&c->lock);
    if (n->open != 0)
        for (int i = 0; i < FP_STATES; i++) sum->by_state[i] += n->by_state[i];
    for (int i = 0; i < 16; i++) sum->closed_for[i] += n->closed_for[i];
    for (int i = 0; i < 4; i++) sum->counted[i] += n->counted[i];
    sum->open += n->open;
    sum->waiting += n->waiting;
    sum->uses += n->uses;
    sum->leases += n->leases;
    sum->draining += n->draining;
    fp_times_sum(&sum->waits, &n->waits);
    fp_times_sum(&sum->held, &n->held);
    fp_times_sum(&sum->creates, &n->creates);
}

#endif
