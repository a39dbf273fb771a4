/* A small number for each thread that asks, used again once the thread has ended: the lowest free one,
 * so that numbers stay dense and may lead to a place in a table.
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

/* Tables that numbers lead into grow by strips: 1 has the places of 0 to 3, 2 those of 4 to 7, 3
 * those of 8 to 15, and so on.  Nobody has a place in strip 0. */
#define FP_STRIPS 12
#define FP_MOST_NUMBERS 4096
#define fp_strip_size(k) ((k) == 1 ? 4u : 1u << (k))

#ifndef FP_NUMBERS_USED /* the harness lets them run out */
#define FP_NUMBERS_USED FP_MOST_NUMBERS
#endif

typedef struct {
    uint32_t strip; /* 0: the thread has no number yet, or there was none left */
    uint32_t offset;
} fp_place;

static _Atomic(uint64_t) fp_numbers[FP_MOST_NUMBERS / 64]; /* a bit each, set while it is taken; anyone */
static _Thread_local fp_place fp_place_here;

static inline unsigned fp_number_of(fp_place place) {
    return place.strip == 1 ? place.offset : (1u << place.strip) + place.offset;
}

static void fp_number_release(void) {
    fp_place place = fp_place_here;
    if (place.strip == 0) return;
    unsigned number = fp_number_of(place);
    fp_place_here.strip = 0;
    /* release: pairs with the acquire of the next owner, who has to see what this thread left in its
     * place and would write over it otherwise */
    atomic_fetch_and_explicit(&fp_numbers[number / 64], ~((uint64_t)1 << number % 64),
                              memory_order_release);
}

#ifdef _WIN32
static DWORD fp_number_key = FLS_OUT_OF_INDEXES;
static void WINAPI fp_number_thread_ends(void *set) {
    if (set != NULL) fp_number_release();
}
static int fp_install_numbers(void) {
    fp_number_key = FlsAlloc(fp_number_thread_ends);
    return fp_number_key == FLS_OUT_OF_INDEXES ? -1 : 0;
}
#define fp_number_watch() (FlsSetValue(fp_number_key, (void *)1) ? 0 : -1)
#else
static pthread_key_t fp_number_key;
static void fp_number_thread_ends(void *set) {
    (void)set;
    fp_number_release();
}
static int fp_install_numbers(void) {
    return pthread_key_create(&fp_number_key, fp_number_thread_ends) == 0 ? 0 : -1;
}
#define fp_number_watch() (pthread_setspecific(fp_number_key, (void *)1) == 0 ? 0 : -1)
#endif

/* Takes a number for the running thread; 0: all are taken. */
static int fp_number_claim(void) {
    for (unsigned i = 0; i < FP_MOST_NUMBERS / 64; i++) {
        uint64_t taken = atomic_load_explicit(&fp_numbers[i], memory_order_relaxed);
        while (~taken != 0) {
            unsigned bit = 0;
            while (taken >> bit & 1) bit++;
            unsigned number = 64 * i + bit;
            if (number >= FP_NUMBERS_USED) return 0;
            if (!atomic_compare_exchange_weak_explicit(&fp_numbers[i], &taken,
                                                       taken | (uint64_t)1 << bit,
                                                       memory_order_acquire, memory_order_relaxed))
                continue;
            unsigned strip = 1;
            while (number >= 2u << strip) strip++;
            fp_place_here.strip = strip;
            fp_place_here.offset = strip == 1 ? number : number - (1u << strip);
            if (fp_number_watch() < 0) fp_number_release();
            return fp_place_here.strip != 0;
        }
    }
    return 0;
}

/* In a forked child the other threads are gone, without having ended. */
static void fp_numbers_after_fork(void) {
    for (unsigned i = 0; i < FP_MOST_NUMBERS / 64; i++) atomic_store(&fp_numbers[i], 0);
    if (fp_place_here.strip == 0) return;
    unsigned number = fp_number_of(fp_place_here);
    atomic_store(&fp_numbers[number / 64], (uint64_t)1 << number % 64);
}

#endif
