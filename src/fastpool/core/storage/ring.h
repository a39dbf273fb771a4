/* The lock-free ring of idle slots: Dmitry Vyukov's bounded MPMC queue, with the exact emptiness
 * test of crossbeam's ArrayQueue.
 *
 * A cell with stamp == position is free for the push of that lap; stamp == position + 1 holds an
 * entry; a pop leaves position + capacity, which frees the cell for the next lap.  Stamps are 64
 * bits wide and never wrap.  A slot has at most one entry (INRING), so a ring with a cell for every
 * slot never overflows.
 */
#ifndef FASTPOOL_RING_H
#define FASTPOOL_RING_H

#include "slot.h"

#if FP_ATOMIC
typedef struct {
    _Atomic(uint64_t) stamp;
    uint32_t index; /* plain: guarded by the stamp */
} fp_cell;

typedef struct {
    _Alignas(FP_CACHE_LINE) _Atomic(uint64_t) head; /* next position to pop */
    _Alignas(FP_CACHE_LINE) _Atomic(uint64_t) tail; /* next position to push */
    _Alignas(FP_CACHE_LINE) fp_cell *cells;
    uint64_t mask;
} fp_ring;

_Static_assert(offsetof(fp_ring, tail) - offsetof(fp_ring, head) >= FP_CACHE_LINE, "cursors apart");

static inline void fp_ring_init(fp_ring *ring, fp_cell *cells, uint64_t capacity) {
    ring->cells = cells;
    ring->mask = capacity - 1;
    for (uint64_t i = 0; i < capacity; i++) atomic_init(&cells[i].stamp, i);
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
}

/* After a lost race: wait a little longer each time, at most 64 pauses. */
static inline unsigned fp_backoff(unsigned round) {
    for (unsigned i = 0; i < (1u << round); i++) fp_pause();
    return round < 6 ? round + 1 : round;
}

static inline void fp_ring_push(fp_ring *ring, uint32_t index) {
    unsigned round = 0;
    uint64_t at = fp_load(&ring->tail, relaxed);
    for (;;) {
        fp_cell *cell = &ring->cells[at & ring->mask];
        /* acquire: pairs with the release of the pop that freed the cell, whose read of `index`
         * must be over before it is overwritten */
        uint64_t stamp = fp_load(&cell->stamp, acquire);
        if (stamp == at && fp_cas(&ring->tail, &at, at + 1, seq_cst)) {
            cell->index = index;
            FP_STEP();
            /* release: pairs with the acquire in pop; weakened, a pop reads an old index */
            atomic_store_explicit(&cell->stamp, at + 1, FP_PUBLISH_ORDER);
            return;
        }
        /* lost the race, or a pop of the last lap has claimed this cell and not yet freed it */
        round = fp_backoff(round);
        at = fp_load(&ring->tail, relaxed);
    }
}

/* -1 when the ring was empty at some instant of the call: the cell is not ready *and* the tail,
 * read after it, stands where the head stood.  Without the second look a push that is half done
 * hides every later entry. */
static inline int64_t fp_ring_pop(fp_ring *ring) {
    unsigned round = 0;
    uint64_t at = fp_load(&ring->head, relaxed);
    for (;;) {
        fp_cell *cell = &ring->cells[at & ring->mask];
        uint64_t stamp = fp_load(&cell->stamp, acquire);
        if (stamp == at + 1) {
            if (fp_cas(&ring->head, &at, at + 1, seq_cst)) {
                uint32_t index = cell->index;
                /* release: pairs with the acquire in push */
                fp_store(&cell->stamp, at + ring->mask + 1, release);
                return index;
            }
        } else if (stamp == at) {
            /* seq_cst: the load half of the store-load pair of a waiter that has registered */
            if (fp_load(&ring->tail, seq_cst) == at) return -1;
        }
        round = fp_backoff(round);
        at = fp_load(&ring->head, relaxed);
    }
}

static inline int fp_ring_seems_empty(fp_ring *ring) {
    return fp_load(&ring->head, seq_cst) == fp_load(&ring->tail, seq_cst);
}
#endif

#endif
