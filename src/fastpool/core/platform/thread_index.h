/* A small number for each thread that asks, used again once the thread has ended: the lowest free one,
 * so that numbers stay dense and may lead to an entry in a table.
 *
 * Plain C11.  Atomic on builds with the GIL too: a thread ends, and gives its number back, without it.
 */
#ifndef FASTPOOL_THREAD_INDEX_H
#define FASTPOOL_THREAD_INDEX_H

#include <stdatomic.h>
#include <stdint.h>

#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#else
#include <pthread.h>
#endif

/* Tables that numbers lead into grow by strips: 1 has the entries of 0 to 3, 2 those of 4 to 7, 3
 * those of 8 to 15, and so on.  Nobody has an entry in strip 0. */
#define FP_STRIPS 12
#define FP_MOST_THREADS 4096
#define fp_strip_size(k) ((k) == 1 ? 4u : 1u << (k))

#ifndef FP_THREADS_USED /* the harness lets them run out */
#define FP_THREADS_USED FP_MOST_THREADS
#endif

typedef struct {
    uint32_t strip; /* 0: the thread has no number yet, or there was none left */
    uint32_t offset;
} fp_thread_index;

/* a bit each, set while it is taken; anyone */
static _Atomic(uint64_t) fp_thread_indexes[FP_MOST_THREADS / 64];
static _Thread_local fp_thread_index fp_own_index;

static inline unsigned fp_thread_number(fp_thread_index index) {
    return index.strip == 1 ? index.offset : (1u << index.strip) + index.offset;
}

static void fp_thread_index_release(void) {
    fp_thread_index index = fp_own_index;
    if (index.strip == 0) return;
    unsigned number = fp_thread_number(index);
    fp_own_index.strip = 0;
    /* release: pairs with the acquire of the next owner, who has to see what this thread left in its
     * place and would write over it otherwise */
    atomic_fetch_and_explicit(&fp_thread_indexes[number / 64], ~((uint64_t)1 << number % 64),
                              memory_order_release);
}

#ifdef _WIN32
static DWORD fp_thread_index_key = FLS_OUT_OF_INDEXES;
static void WINAPI fp_thread_index_at_exit(void *set) {
    if (set != NULL) fp_thread_index_release();
}
static int fp_install_thread_index(void) {
    fp_thread_index_key = FlsAlloc(fp_thread_index_at_exit);
    return fp_thread_index_key == FLS_OUT_OF_INDEXES ? -1 : 0;
}
#define fp_thread_index_watch() (FlsSetValue(fp_thread_index_key, (void *)1) ? 0 : -1)
#else
static pthread_key_t fp_thread_index_key;
static void fp_thread_index_at_exit(void *set) {
    (void)set;
    fp_thread_index_release();
}
static int fp_install_thread_index(void) {
    return pthread_key_create(&fp_thread_index_key, fp_thread_index_at_exit) == 0 ? 0 : -1;
}
#define fp_thread_index_watch() (pthread_setspecific(fp_thread_index_key, (void *)1) == 0 ? 0 : -1)
#endif

/* Takes a number for the running thread; 0: all are taken. */
static int fp_thread_index_claim(void) {
    for (unsigned i = 0; i < FP_MOST_THREADS / 64; i++) {
        uint64_t taken = atomic_load_explicit(&fp_thread_indexes[i], memory_order_relaxed);
        while (~taken != 0) {
            unsigned bit = 0;
            while (taken >> bit & 1) bit++;
            unsigned number = 64 * i + bit;
            if (number >= FP_THREADS_USED) return 0;
            if (!atomic_compare_exchange_weak_explicit(&fp_thread_indexes[i], &taken,
                                                       taken | (uint64_t)1 << bit,
                                                       memory_order_acquire, memory_order_relaxed))
                continue;
            unsigned strip = 1;
            while (number >= 2u << strip) strip++;
            fp_own_index.strip = strip;
            fp_own_index.offset = strip == 1 ? number : number - (1u << strip);
            if (fp_thread_index_watch() < 0) fp_thread_index_release();
            return fp_own_index.strip != 0;
        }
    }
    return 0;
}

/* In a forked child the other threads are gone, without having ended. */
static void fp_thread_indexes_after_fork(void) {
    for (unsigned i = 0; i < FP_MOST_THREADS / 64; i++) atomic_store(&fp_thread_indexes[i], 0);
    if (fp_own_index.strip == 0) return;
    unsigned number = fp_thread_number(fp_own_index);
    atomic_store(&fp_thread_indexes[number / 64], (uint64_t)1 << number % 64);
}

#endif
