/* What a forked child makes anew.
 *
 * Only the forking thread lives on, and no block is caught in the middle of a change: with a GIL the
 * forking thread has it, and free-threaded builds stop the world before.  No lock is taken for it.
 * One may belong to a stopped thread, which was handed it while it slept and has not begun; to wait
 * for that thread would be to wait for ever.  The child makes its locks anew.  Its queues are empty,
 * since those who stood in them are gone.  A pool starts with a new table and a new id: the parent's
 * resources stay referenced in the old one, are never used or closed here, and leases of the parent
 * no longer match.  Of a semaphore all is free, or nothing where a budget has to allow it: what was
 * taken, the parent has.
 */
#ifndef FASTPOOL_FORK_H
#define FASTPOOL_FORK_H

#include "object_cache.h"
#include "registry.h"
#include "waiting/parking.h"

static void fp_after_fork_in_child(void) {
    fp_forget_thread();
    fp_forks++;
    fp_defer_depth = 0;
    fp_deferred_box = NULL;
    fp_mailbox_is_gone(); /* the loop that ran here is the parent's */
    fp_lock_init(&fp_registry_lock);
    fp_lock_init(&fp_spare_lock);
    fp_caches_after_fork();
    fp_spare = NULL;
    fp_spares = 0;
    for (fp_core *c = fp_live; c != NULL; c = c->next) {
        fp_lock_init(&c->lock);
        memset(&c->getters, 0, 4 * sizeof(fp_wait_queue));
        c->arriving = 0;
        fp_gate_clear(c, FP_WAITER_BITS);
        fp_store(&c->weights.taken, 0, relaxed);
        if (c->use == FP_WEIGHTED && c->allowance != SIZE_MAX) { /* what there was is the parent's */
            c->allowance = c->weights.reported = 0;
            c->short_of_permits = 0;
            fp_store(&c->weights.most, 0, relaxed);
        }
        if (c->use == FP_POOL || c->use == FP_SHARING) {
            fp_store(&c->id, ++fp_ids, relaxed);
            c->last = NULL;
            c->open = c->creating = c->creating_in_caller = c->in_flight = c->delivered = c->renewing = 0;
            fp_store(&c->loads.top, 0, relaxed);
            c->retired_uses = 0;
            memset(c->closed_for, 0, sizeof c->closed_for);
            memset(&c->waits, 0, sizeof c->waits);
            memset(&c->held, 0, sizeof c->held);
            memset(&c->creates, 0, sizeof c->creates);
            memset(c->counted, 0, sizeof c->counted);
            (void)fp_slots_init(&c->slots);
        }
    }
}

#endif
