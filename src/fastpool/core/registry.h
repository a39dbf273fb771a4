/* The blocks in use, and those that wait for the next pool.
 *
 * Memory of a core is never given back to the system, only to the list of spare blocks: a lease holds
 * nothing but {block, id}, and may look at the block at any time, and take its lock.  An id is never
 * used twice, so it finds out that its pool is gone.
 */
#ifndef FASTPOOL_REGISTRY_H
#define FASTPOOL_REGISTRY_H

#include "core.h"
#include "slot_view.h"

static fp_lock fp_registry_lock;
static fp_core *fp_live, *fp_idle_blocks;
static uint64_t fp_ids;

static fp_core *fp_core_new(void) {
    fp_lock_take(&fp_registry_lock);
    fp_core *c = fp_idle_blocks;
    if (c != NULL) fp_idle_blocks = c->next;
    fp_lock_drop(&fp_registry_lock);
    if (c == NULL) {
        void *raw;
        if ((c = (fp_core *)fp_alloc_aligned(sizeof *c, &raw)) == NULL) return NULL;
        c->raw = raw;
        fp_lock_init(&c->lock); /* and never again: one with an old lease may be taking it */
    }
    if (fp_deque_init(&c->items) < 0 ||
        (c->slots.segments[0] == NULL && fp_slots_init(&c->slots) < 0)) {
        fp_lock_take(&fp_registry_lock);
        c->next = fp_idle_blocks;
        fp_idle_blocks = c;
        fp_lock_drop(&fp_registry_lock);
        return NULL;
    }
    c->limit = c->allowance = c->max_waiting = SIZE_MAX;
    c->fresh_for = FP_NEVER;
    c->timeout_ns = FP_NEVER;
    c->lifo = 1;
    fp_lock_take(&fp_registry_lock);
    fp_store(&c->id, ++fp_ids, relaxed);
    c->prev = NULL;
    if ((c->next = fp_live) != NULL) fp_live->prev = c;
    fp_live = c;
    fp_lock_drop(&fp_registry_lock);
    return c;
}

/* No waiter or pool is left, and no lease that is held: the block waits for the next pool. */
static void fp_core_retire(fp_core *c) {
    fp_lock_take(&fp_registry_lock);
    *(c->prev ? &c->prev->next : &fp_live) = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    fp_store(&c->id, 0, relaxed);
    fp_lock_drop(&fp_registry_lock);
    fp_lock_take(&c->lock);
    FP_FREE(c->items.cells);
#if !FP_ATOMIC
    /* On free-threaded builds an unentered lease may be looking at a slot at this very moment, so
     * there the segments stay with the block; with a GIL nobody can be in the middle. */
    fp_slots_clear(&c->slots);
#else
    FP_FREE(c->slots.by_item);
    c->slots.by_item = NULL;
    c->slots.by_item_count = 0;
    fp_slots_renew(&c->slots);
#endif
    char *gate = (char *)&c->gate, *queues = (char *)&c->getters;
    memset(gate, 0, (size_t)((char *)&c->lock - gate));
    memset(queues, 0, (size_t)((char *)&c->slots - queues));
    fp_lock_drop(&c->lock);
    fp_lock_take(&fp_registry_lock);
    c->next = fp_idle_blocks;
    fp_idle_blocks = c;
    fp_lock_drop(&fp_registry_lock);
}

#endif
