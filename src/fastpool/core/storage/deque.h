/* A ring of items that grows: both ends.
 *
 * Caller holds the GIL or the core's lock.  LIFO takes at the tail, FIFO at the head; both orders
 * are exact.  The buffer doubles when full and halves when three quarters are empty, so an idle
 * item costs 8 to 16 bytes in a queue that grows.
 */
#ifndef FASTPOOL_DEQUE_H
#define FASTPOOL_DEQUE_H

#include "../platform/atomics.h"

typedef struct {
    void **cells;
    size_t head;  /* position of the oldest item, below capacity */
    size_t count; /* items held */
    size_t mask;  /* capacity - 1; the capacity is a power of two */
    size_t sparse; /* below so many items a large buffer shrinks */
} fp_deque;

enum { FP_DEQUE_LEAST = 8, FP_DEQUE_LARGE = 64 };

static inline int fp_deque_init(fp_deque *d) {
    d->head = d->count = d->sparse = 0;
    d->mask = FP_DEQUE_LEAST - 1;
    d->cells = (void **)FP_MALLOC(FP_DEQUE_LEAST * sizeof(void *));
    return d->cells == NULL ? -1 : 0;
}

static FP_COLD int fp_deque_resize(fp_deque *d, size_t capacity) {
    void **cells = (void **)FP_MALLOC(capacity * sizeof(void *));
    if (cells == NULL) return -1;
    size_t first = d->mask + 1 - d->head; /* cells from the head to the end of the buffer */
    if (first > d->count) first = d->count;
    memcpy(cells, d->cells + d->head, first * sizeof(void *));
    memcpy(cells + first, d->cells, (d->count - first) * sizeof(void *));
    FP_FREE(d->cells);
    d->cells = cells;
    d->head = 0;
    d->mask = capacity - 1;
    d->sparse = capacity > FP_DEQUE_LARGE ? capacity / 4 : 0;
    return 0;
}

static inline int fp_deque_push(fp_deque *d, void *item) {
    if (FP_UNLIKELY(d->count > d->mask) && fp_deque_resize(d, 2 * (d->mask + 1)) < 0) return -1;
    d->cells[(d->head + d->count) & d->mask] = item;
    d->count++;
    return 0;
}

static inline void fp_deque_shrink(fp_deque *d) {
    /* Failing to shrink loses nothing, so the result is not looked at. */
    if (FP_UNLIKELY(d->count < d->sparse)) (void)fp_deque_resize(d, (d->mask + 1) >> 1);
}

static inline void *fp_deque_pop_tail(fp_deque *d) {
    d->count--;
    return d->cells[(d->head + d->count) & d->mask];
}

static inline void *fp_deque_pop_head(fp_deque *d) {
    void *item = d->cells[d->head];
    d->head = (d->head + 1) & d->mask;
    d->count--;
    return item;
}

static inline void *fp_deque_at(const fp_deque *d, size_t i) {
    return d->cells[(d->head + i) & d->mask];
}

#endif
