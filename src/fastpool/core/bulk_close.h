/* Taking resources out of reach: many in one step, before the first of them is closed.
 *
 * Plain C11.  Closing takes as long as it likes, and what is still to be closed must not be lent
 * meanwhile; so whoever closes several takes all of them first.  A slot that is taken is CHECKING.
 */
#ifndef FASTPOOL_BULK_CLOSE_H
#define FASTPOOL_BULK_CLOSE_H

#include "shared_pool.h"
#include "slot_view.h"

/* Slots that belong to whoever closes them, by number. */
typedef struct {
    uint32_t *slots;
    size_t wanted;      /* before the step: so many are named already */
    size_t count, next; /* after it: those before `next` are dealt with */
    void *item;         /* of fp_take_item; NULL after it: no slot holds that */
} fp_taken;

typedef int (*fp_taking)(fp_core *, fp_taken *);

/* Room for so many; 0 when memory is short. */
static int fp_taken_alloc(fp_taken *t, size_t n) {
    t->count = t->next = 0;
    t->slots = (uint32_t *)FP_MALLOC((n + 1) * sizeof(uint32_t));
    return t->slots != NULL;
}

/* Those that are named, of a shared pool: they take no more leases.  Under the lock. */
static int fp_take_these(fp_core *c, fp_taken *t) {
    for (size_t i = 0; i < t->wanted; i++) {
        uint32_t index = t->slots[i];
        if (fp_sharing_bar(c, fp_slots_at(&c->slots, index))) t->slots[t->count++] = index;
    }
    return 1;
}

/* Takes a slot that is idle; marks one that is open otherwise. */
static void fp_take_or_mark(fp_core *c, fp_taken *t, fp_slot *slot) {
    uint64_t word = fp_load(&slot->word, relaxed);
    for (;;) { /* on the very word that was looked at: it may become idle at any moment */
        unsigned state = fp_state(word);
        if (state == FP_FREE_SLOT || state == FP_CLOSING) return;
        if (state == FP_IDLE) {
            if (fp_end_idle(c, slot)) {
                t->slots[t->count++] = slot->index;
                return;
            }
            word = fp_load(&slot->word, relaxed);
        } else if (fp_cas(&slot->word, &word, word | FP_RETIRE, acq_rel)) {
            return;
        }
    }
}

/* All that is open: what is idle, or of a shared pool in no use, is taken, the rest is marked to be
 * closed when it comes back.  Under the lock.  0 when memory is short. */
static int fp_take_all(fp_core *c, fp_taken *t) {
    if (!fp_taken_alloc(t, c->open)) return 0;
    FP_EACH_SLOT(c, slot)
    if (c->use == FP_SHARING) {
        if (fp_sharing_bar(c, slot)) t->slots[t->count++] = slot->index;
    } else {
        fp_take_or_mark(c, t, slot);
    }
    return 1;
}

/* The same for one: that which holds `item`, in a pool that is not shared. */
static int fp_take_item(fp_core *c, fp_taken *t) {
    fp_slot *slot = fp_slots_find(&c->slots, t->item);
    if (!fp_taken_alloc(t, 1)) return 0;
    if (slot == NULL)
        t->item = NULL;
    else
        fp_take_or_mark(c, t, slot);
    return 1;
}

/* What is idle in a pool that is closed, where nothing can be lent meanwhile.  In a time that does not
 * depend on how many are open: every return asks.  Under the lock. */
static int fp_take_idle(fp_core *c, fp_taken *t) {
    t->slots = NULL;
    t->count = t->next = 0;
    for (fp_slot *slot; (slot = fp_idle_take(&c->slots, 0)) != NULL;) {
        (void)fp_slot_move(slot, FP_LEASED, FP_CHECKING);
        if (t->slots == NULL && !fp_taken_alloc(t, c->open)) {
            (void)fp_slot_move(slot, FP_CHECKING, FP_LEASED);
            (void)fp_pool_publish(c, slot, FP_LEASED, fp_slot_word(slot));
            return 0;
        }
        t->slots[t->count++] = slot->index;
    }
    return 1;
}

/* What is idle, or of a shared pool in no use, in a pool that goes on lending.  Under the lock.  0 when
 * memory is short. */
static int fp_take_unused(fp_core *c, fp_taken *t) {
    if (c->use != FP_SHARING) return fp_take_idle(c, t);
    if (!fp_taken_alloc(t, c->open)) return 0;
    FP_EACH_SLOT(c, slot)
    if (fp_sharing_claim(slot)) t->slots[t->count++] = slot->index;
    return 1;
}

/* Frees the first slot from `*number` on whose resource was taken by `get`; the reference to that
 * resource is the caller's.  NULL: there is none.  For a pool that is gone.  Under the lock. */
static void *fp_let_go(fp_core *c, uint32_t *number) {
    uint32_t used = fp_load(&c->slots.used, acquire);
    uint32_t end = used == 0 ? 0 : (uint32_t)FP_SEGMENT_LEAST << (used - 1);
    for (; *number < end; ++*number) {
        fp_slot *slot = fp_slots_at(&c->slots, *number);
        uint64_t word = fp_slot_word(slot);
        if (fp_state(word) != FP_LEASED || !(fp_slot_owner(slot) & FP_BY_GET)) continue;
        if (!fp_slot_move_own(slot, fp_generation(word), FP_LEASED, FP_CLOSING)) continue;
        void *item = fp_load_item(slot);
        c->retired_uses += fp_slot_uses(c, slot);
        fp_slots_forget(&c->slots, slot);
        fp_slots_release(&c->slots, slot);
        c->open--;
        return item;
    }
    return NULL;
}

typedef struct {
    int64_t since;
    uint32_t index;
} fp_idling;

static int fp_by_since(const void *a, const void *b) {
    int64_t one = ((const fp_idling *)a)->since, other = ((const fp_idling *)b)->since;
    return (one > other) - (one < other);
}

/* As many as are open beyond the limit, or the allowance: what has been idle longest is taken; if that is not enough
 * others are marked, less those that are marked already.  Under the lock. */
static int fp_take_surplus(fp_core *c, fp_taken *t) {
    if (!fp_taken_alloc(t, c->open)) return 0;
    size_t most = c->limit < c->allowance ? c->limit : c->allowance;
    if (c->open <= most) return 1;
    fp_idling *idle = (fp_idling *)FP_MALLOC((c->open + 1) * sizeof(fp_idling));
    if (idle == NULL) return 0;
    size_t n = 0, staying = 0, marked = 0;
    FP_EACH_SLOT(c, slot) {
        uint64_t word = fp_load(&slot->word, relaxed);
        unsigned state = fp_state(word);
        if (state == FP_FREE_SLOT || state == FP_CLOSING) continue;
        staying++;
        if (state == FP_IDLE)
            idle[n++] = (fp_idling){fp_load(&slot->since, relaxed), slot->index};
        else
            marked += (word & FP_RETIRE) != 0;
    }
    size_t surplus = staying > most ? staying - most : 0;
    qsort(idle, n, sizeof *idle, fp_by_since);
    for (size_t i = 0; i < n && surplus != 0; i++)
        if (fp_end_idle(c, fp_slots_at(&c->slots, idle[i].index))) {
            t->slots[t->count++] = idle[i].index;
            surplus--;
        }
    FP_FREE(idle);
    if (surplus > marked) (void)fp_mark_retire(c, surplus - marked, 0);
    return 1;
}

#endif
