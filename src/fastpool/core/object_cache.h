/* What an ObjectCache keeps: a shard for each thread, which others may take from, in two generations.
 *
 * Plain C11; the includer gives fp_lock as for core.h.  The contract is that of Go's sync.Pool, the
 * two generations are those of its victim cache.  What differs: the object that a thread put last, which
 * Go keeps for that thread alone, may be taken as well once nothing else is left, so that nothing is
 * made while anything is there; and each thread gets back what it put last.
 *
 * A get looks, in this order, at
 *   1 what the own thread put last, and what it put before that
 *   2 what other threads have put, oldest first
 *   3 the old generation, the own thread's first
 *   4 what other threads put last
 * and finds nothing if it looks while others move things.  That is allowed: then one more is made.
 */
#ifndef FASTPOOL_OBJECT_CACHE_H
#define FASTPOOL_OBJECT_CACHE_H

#include "platform/clock.h"
#include "platform/thread_index.h"
#include "storage/deque.h"

typedef struct {
    /* NULL or the object put last.  Put in by the thread whose shard this is and by nobody else; taken
     * out by anyone, by exchange. */
    _Alignas(FP_CACHE_LINE) FP_SHARED(void *) last;
    FP_SHARED(size_t) recents, olds; /* counts below; written under the lock, read by anyone as a guess */
    fp_lock lock;                    /* guards: */
    fp_deque recent;                 /* what was put before `last` */
    fp_deque old;                    /* what nobody has asked for since the epoch before */
} fp_shard;

typedef struct fp_cache {
    FP_SHARED(fp_shard *) strips[FP_STRIPS]; /* written under fp_caches_lock, stay to the end */
    FP_SHARED(size_t) shards;                    /* in them all; likewise, after them */
    struct fp_cache *prev, *next;                /* under fp_caches_lock */
    void *raw[FP_STRIPS];
} fp_cache;

static fp_lock fp_caches_lock; /* taken before the lock of a shard */
static fp_cache *fp_caches;
static FP_SHARED(int64_t) fp_caches_advanced; /* ns, coarse; when the last epoch ended; whoever ends one */
static int fp_caches_watched; /* under fp_caches_lock: time is watched for them, see fp_caches_advance */

enum { FP_MOST_LOOKS = 64 }; /* shards of others that one get looks at */

#if FP_ATOMIC
#define fp_exchange(p, v, order) (FP_STEP(), atomic_exchange_explicit((p), (v), memory_order_##order))
#else
static inline void *fp_exchange_plain(void **p, void *v) {
    void *was = *p;
    *p = v;
    return was;
}
#define fp_exchange(p, v, order) fp_exchange_plain((p), (v))
#endif

/* ---- One shard ---- */

/* acquire: pairs with the release in fp_cache_put; without it the taker could see the object as it was
 * before it was put. */
static inline void *fp_shard_take_last(fp_shard *s) {
    if (fp_load(&s->last, relaxed) == NULL) return NULL;
    return fp_exchange(&s->last, NULL, acquire);
}

/* Makes sure that one more fits. */
static int fp_deque_reserve(fp_deque *d) {
    if (d->cells == NULL) return fp_deque_init(d);
    return d->count > d->mask ? fp_deque_resize(d, 2 * (d->mask + 1)) : 0;
}

#ifdef FASTPOOL_DEBUG
static void fp_deque_check(fp_deque *d) {
    FP_ASSERT(d->cells != NULL || d->count == 0);
    FP_ASSERT(d->count == 0 || d->count <= d->mask + 1);
    for (size_t i = 0; i < d->count; i++) FP_ASSERT(fp_deque_at(d, i) != NULL);
}
#endif

static void fp_deque_free(fp_deque *d) {
    FP_FREE(d->cells);
    memset(d, 0, sizeof *d);
}

/* The end of each step under the lock.  relaxed: a guess, for those who then take the lock */
static inline void fp_shard_noted(fp_shard *s) {
#ifdef FASTPOOL_DEBUG
    fp_deque_check(&s->recent);
    fp_deque_check(&s->old);
#endif
    fp_store(&s->recents, s->recent.count, relaxed);
    fp_store(&s->olds, s->old.count, relaxed);
}

static void *fp_shard_pop(fp_shard *s, fp_deque *d, int newest) {
    void *item = NULL;
    fp_lock_take(&s->lock);
    if (d->count != 0) {
        item = newest ? fp_deque_pop_tail(d) : fp_deque_pop_head(d);
        fp_deque_shrink(d);
        fp_shard_noted(s);
    }
    fp_lock_drop(&s->lock);
    return item;
}

/* What could not be kept: `item`, for want of memory, or NULL. */
static void *fp_shard_push(fp_shard *s, void *item) {
    fp_lock_take(&s->lock);
    if (fp_deque_reserve(&s->recent) == 0) {
        (void)fp_deque_push(&s->recent, item);
        item = NULL;
        fp_shard_noted(s);
    }
    fp_lock_drop(&s->lock);
    return item;
}

/* ---- All shards of a cache ---- */

#define FP_EACH_SHARD(c, s)                                                                       \
    for (uint32_t k_ = 1; k_ < FP_STRIPS; k_++)                                                   \
        for (fp_shard *base_ = fp_load(&(c)->strips[k_], acquire), *s = base_;                    \
             base_ != NULL && s < base_ + fp_strip_size(k_); s++)

/* The shard of the running thread; NULL: none yet. */
static inline fp_shard *fp_cache_own_shard(fp_cache *c) {
    fp_thread_index index = fp_own_index;
    /* acquire: pairs with the release in fp_cache_strip, after which its shards are all zero */
    fp_shard *strip = fp_load(&c->strips[index.strip], acquire);
    return FP_LIKELY(strip != NULL) ? strip + index.offset : NULL;
}

/* A strip of the table; NULL: no memory.  *watch: time is to be watched from now on. */
static FP_COLD fp_shard *fp_cache_strip(fp_cache *c, uint32_t k, int *watch) {
    fp_lock_take(&fp_caches_lock);
    fp_shard *strip = fp_load(&c->strips[k], acquire);
    if (strip == NULL) {
        uint32_t size = fp_strip_size(k);
        strip = (fp_shard *)fp_alloc_aligned(size * sizeof(fp_shard), &c->raw[k]);
        if (strip != NULL) {
            for (uint32_t i = 0; i < size; i++) fp_lock_init(&strip[i].lock);
            fp_store(&c->strips[k], strip, release);
            /* release: pairs with the acquire in fp_cache_search, which counts on finding so many */
            fp_store(&c->shards, fp_load(&c->shards, relaxed) + size, release);
            *watch = !fp_caches_watched;
            fp_caches_watched = 1;
        }
    }
    fp_lock_drop(&fp_caches_lock);
    return strip;
}

/* What the own shard does not have as its last: see above.  NULL: nothing was found. */
static FP_APART void *fp_cache_search(fp_cache *c, fp_shard *mine) {
    void *item;
    if (mine != NULL && fp_load(&mine->recents, relaxed) != 0 &&
        (item = fp_shard_pop(mine, &mine->recent, 1)) != NULL)
        return item;
    size_t looks = fp_load(&c->shards, acquire);
    if (looks > FP_MOST_LOOKS) looks = FP_MOST_LOOKS;
    fp_shard *with_old = mine != NULL && fp_load(&mine->olds, relaxed) != 0 ? mine : NULL;
    fp_shard *with_last = NULL;
    fp_thread_index at = fp_own_index;
    while (looks-- != 0) { /* from the own shard on, and round */
        fp_shard *strip;
        at.offset++;
        while ((strip = fp_load(&c->strips[at.strip], acquire)) == NULL ||
               at.offset >= fp_strip_size(at.strip)) {
            at.strip = at.strip + 1 == FP_STRIPS ? 1 : at.strip + 1;
            at.offset = 0;
        }
        fp_shard *s = strip + at.offset;
        if (s == mine) continue;
        if (fp_load(&s->recents, relaxed) != 0 && (item = fp_shard_pop(s, &s->recent, 0)) != NULL)
            return item;
        if (with_old == NULL && fp_load(&s->olds, relaxed) != 0) with_old = s;
        if (with_last == NULL && fp_load(&s->last, relaxed) != NULL) with_last = s;
    }
    if (with_old != NULL && (item = fp_shard_pop(with_old, &with_old->old, with_old == mine)) != NULL)
        return item;
    return with_last == NULL ? NULL : fp_shard_take_last(with_last);
}

/* An object, or NULL: one is to be made. */
static inline void *fp_cache_get(fp_cache *c) {
    fp_shard *mine = fp_cache_own_shard(c);
    if (FP_LIKELY(mine != NULL)) {
        void *item = fp_shard_take_last(mine);
        if (FP_LIKELY(item != NULL)) return item;
    }
    return fp_cache_search(c, mine);
}

/* The rest of fp_cache_put: the thread's first, or `last` is taken. */
static FP_APART void *fp_cache_put_more(fp_cache *c, fp_shard *mine, void *item, int *watch) {
    if (FP_UNLIKELY(mine == NULL)) {
        int numbered = fp_own_index.strip != 0 || fp_thread_index_claim();
        fp_shard *strip = fp_cache_strip(c, numbered ? fp_own_index.strip : 1, watch);
        if (strip == NULL) return item;
        if (!numbered) return fp_shard_push(strip, item); /* beside whoever has the first shard */
        mine = strip + fp_own_index.offset;
    }
    void *before = fp_exchange(&mine->last, item, acq_rel); /* as in take_last and in put */
    return before == NULL ? NULL : fp_shard_push(mine, before);
}

/* Keeps it, with the reference to it; what could not be kept is the caller's to let go, or NULL.  What
 * is put twice running is kept once.  *watch: see fp_cache_strip; the caller has set it to 0. */
static inline void *fp_cache_put(fp_cache *c, void *item, int *watch) {
    fp_shard *mine = fp_cache_own_shard(c);
    if (FP_LIKELY(mine != NULL)) {
        void *last = fp_load(&mine->last, relaxed);
        if (FP_LIKELY(last == NULL)) {
            fp_store(&mine->last, item, release);
            return NULL;
        }
        if (FP_UNLIKELY(last == item)) return item;
    }
    return fp_cache_put_more(c, mine, item, watch);
}

/* ---- Life and epochs ---- */

static void fp_cache_begin(fp_cache *c) { /* all zero */
    fp_lock_take(&fp_caches_lock);
    c->prev = NULL;
    if ((c->next = fp_caches) != NULL) fp_caches->prev = c;
    fp_caches = c;
    fp_lock_drop(&fp_caches_lock);
}

/* One object out of it, from whichever shard; NULL: there is none left. */
static void *fp_cache_drain(fp_cache *c) {
    FP_EACH_SHARD(c, s) {
        void *item = fp_shard_take_last(s);
        if (item == NULL) item = fp_shard_pop(s, &s->recent, 1);
        if (item == NULL) item = fp_shard_pop(s, &s->old, 1);
        if (item != NULL) return item;
    }
    return NULL;
}

/* Nobody uses it any more; what it had is drained when this returns, by `free_item`. */
static void fp_cache_end(fp_cache *c, void (*free_item)(void *)) {
    void *item;
    fp_lock_take(&fp_caches_lock); /* whoever turns the caches is done with this one, and sees it no more */
    *(c->prev ? &c->prev->next : &fp_caches) = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    fp_lock_drop(&fp_caches_lock);
    while ((item = fp_cache_drain(c)) != NULL) free_item(item);
    FP_EACH_SHARD(c, s) {
        fp_deque_free(&s->recent);
        fp_deque_free(&s->old);
    }
    for (uint32_t k = 1; k < FP_STRIPS; k++) FP_FREE(c->raw[k]);
}

/* One generation on: what is old goes to `dropped`, the rest is old from now on. */
static void fp_shard_advance(fp_shard *s, fp_deque *dropped) {
    fp_lock_take(&s->lock);
    while (s->old.count != 0 && fp_deque_reserve(dropped) == 0)
        (void)fp_deque_push(dropped, fp_deque_pop_head(&s->old));
    if (s->old.count == 0) { /* else there was no memory: another time */
        fp_deque_free(&s->old);
        s->old = s->recent;
        memset(&s->recent, 0, sizeof s->recent);
        void *last;
        if (fp_load(&s->last, relaxed) != NULL && fp_deque_reserve(&s->old) == 0 &&
            (last = fp_shard_take_last(s)) != NULL)
            (void)fp_deque_push(&s->old, last);
    }
    fp_shard_noted(s);
    fp_lock_drop(&s->lock);
}

/* An epoch ends for all caches.  The caller lets go of what is dropped, and of the buffer.  0: no cache
 * is in use any more, so time need not be watched until one is. */
static int fp_caches_advance(fp_deque *dropped) {
    memset(dropped, 0, sizeof *dropped);
    fp_store(&fp_caches_advanced, fp_clock_coarse(), relaxed); /* a date, and no more */
    size_t shards = 0;
    fp_lock_take(&fp_caches_lock);
    for (fp_cache *c = fp_caches; c != NULL; c = c->next) {
        shards += fp_load(&c->shards, relaxed);
        FP_EACH_SHARD(c, s) {
            if (fp_load(&s->last, relaxed) != NULL || fp_load(&s->recents, relaxed) != 0 ||
                fp_load(&s->olds, relaxed) != 0)
                fp_shard_advance(s, dropped);
        }
    }
    if (shards == 0) fp_caches_watched = 0;
    fp_lock_drop(&fp_caches_lock);
    return shards != 0;
}

/* In a forked child: a lock may belong to a thread that is gone and that had not begun. */
static void fp_caches_after_fork(void) {
    fp_thread_indexes_after_fork();
    fp_lock_init(&fp_caches_lock);
    for (fp_cache *c = fp_caches; c != NULL; c = c->next)
        FP_EACH_SHARD(c, s) fp_lock_init(&s->lock);
}

#endif
