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
} fp_loop_entry;

static _Thread_local fp_loop_entry fp_last_loop;

static inline fp_core *fp_loop_core(fp_core *pool, const void *loop) {
    fp_loop_entry *entry = &fp_last_loop;
    if (entry->loop != loop || entry->pool != fp_load(&pool->id, relaxed)) return NULL;
    return fp_load(&entry->core->id, relaxed) == entry->shard ? entry->core : NULL;
}

static inline void fp_loop_note(fp_core *pool, const void *loop, fp_core *core) {
    fp_last_loop.pool = fp_load(&pool->id, relaxed);
    fp_last_loop.shard = fp_load(&core->id, relaxed);
    fp_last_loop.loop = loop;
    fp_last_loop.core = core;
}

#endif
