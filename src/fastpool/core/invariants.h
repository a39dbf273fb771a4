/* What holds of a core whenever nobody has its lock: checked by debug builds.  Plain C11. */
#ifndef FASTPOOL_INVARIANTS_H
#define FASTPOOL_INVARIANTS_H

#include "core.h"

#ifdef FASTPOOL_DEBUG
/* Walks the whole structure; under the lock. */
static void fp_check(fp_core *c) {
    size_t open = 0, creating = 0, n = 0;
    uint32_t used = fp_load(&c->slots.used, relaxed);
    for (uint32_t k = 0; k < used; k++) {
        fp_segment *segment = fp_load(&c->slots.segments[k], relaxed);
        for (uint32_t i = 0; i < segment->size; i++) {
            unsigned state = fp_state(fp_load(&segment->slots[i].word, relaxed));
            FP_ASSERT(state < FP_STATES);
            open += state != FP_FREE_SLOT;
            creating += state == FP_CREATING;
        }
    }
    FP_ASSERT(open == c->open);
    FP_ASSERT(creating == c->creating);
    for (fp_waiter *w = c->getters.first; w != NULL; w = w->next, n++)
        FP_ASSERT(atomic_load(&w->state) < FP_GRANTED && (w->next == NULL || w->next->prev == w));
    FP_ASSERT(n == c->getters.count);
    FP_ASSERT(c->use == FP_POOL || c->items.count <= c->items.mask + 1);
    uint64_t taken = fp_load(&c->weights.taken, relaxed);
    FP_ASSERT(taken <= (uint64_t)1 << 62); /* or more was given back than was taken */
}
#else
#define fp_check(c) ((void)0)
#endif

#endif
