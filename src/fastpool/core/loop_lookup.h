/* Which core serves the event loop that runs here: for a pool with an async factory, whose resources
 * belong to their loops.  One guess per thread, made by its last call.
 *
 * Neither address can deceive: a shard keeps its loop alive as long as its block is in use, the memory
 * of a block is never given back, and the id of a block is never used twice.
 */
#ifndef FASTPOOL_LOOP_LOOKUP_H
#define FASTPOOL_LOOP_LOOKUP_H

#include "core.h"

typedef struct {
    uint64_t pool, shard; /* ids */
    const void *loop;
    fp_core *core;
} fp_home;

static _Thread_local fp_home fp_home_last;

static inline fp_core *fp_home_guess(fp_core *pool, const void *loop) {
    fp_home *home = &fp_home_last;
    if (home->loop != loop || home->pool != fp_load(&pool->id, relaxed)) return NULL;
    return fp_load(&home->core->id, relaxed) == home->shard ? home->core : NULL;
}

static inline void fp_home_note(fp_core *pool, const void *loop, fp_core *core) {
    fp_home_last.pool = fp_load(&pool->id, relaxed);
    fp_home_last.shard = fp_load(&core->id, relaxed);
    fp_home_last.loop = loop;
    fp_home_last.core = core;
}

#endif
