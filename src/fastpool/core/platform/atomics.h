/* Words that several threads touch, aligned memory, and hints to the compiler.
 *
 * Plain C11 without Python.h, so that the same text runs in the extension, in the C harness, under
 * ThreadSanitizer and in model checkers.  Two builds from one source:
 *
 *   FP_ATOMIC 1   free-threaded builds and the harness: atomic words, per-thread hints, stamped rings.
 *   FP_ATOMIC 0   builds with the GIL: the same steps as plain loads and stores.  No Python API lies
 *                 between the steps of an operation, so the GIL makes each of them atomic.
 *
 * No stand-alone fences anywhere: ThreadSanitizer does not model them.
 */
#ifndef FASTPOOL_ATOMICS_H
#define FASTPOOL_ATOMICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef FP_ATOMIC
#define FP_ATOMIC 1
#endif
#ifndef FP_MALLOC /* the includer may count or trace memory */
#define FP_MALLOC(n) malloc(n)
#define FP_FREE(p) free(p)
#endif
#ifndef FP_STEP /* the harness yields here at random, to perturb the schedule */
#define FP_STEP() ((void)0)
#endif
#ifndef FP_PUBLISH_ORDER /* the weakened copy sets this to relaxed, and the sanitizer must catch it */
#define FP_PUBLISH_ORDER memory_order_release
#endif

#define FP_CACHE_LINE 64 /* bytes of a cache line */

#if defined(__GNUC__) || defined(__clang__)
#define FP_LIKELY(x) __builtin_expect(!!(x), 1)
#define FP_COLD __attribute__((noinline, cold))
#define FP_APART __attribute__((noinline)) /* hot, but its registers are not for the caller to save */
/* on a hot path, where -O2 would make a call of it */
#define FP_INLINE static inline __attribute__((always_inline))
#define FP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define FP_LIKELY(x) (x)
#define FP_COLD
#define FP_APART
#define FP_INLINE static inline
#define FP_UNLIKELY(x) (x)
#endif
#if defined(__x86_64__) || defined(__i386__)
#define fp_pause() __builtin_ia32_pause()
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define fp_pause() __asm__ __volatile__("yield")
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_ARM64))
#include <intrin.h>
#if defined(_M_X64)
#define fp_pause() _mm_pause()
#else
#define fp_pause() __yield()
#endif
#else
#define fp_pause() ((void)0)
#endif

#ifdef FASTPOOL_DEBUG
#include <stdio.h>
#define FP_ASSERT(x)                                                                              \
    do {                                                                                          \
        if (!(x)) {                                                                               \
            fprintf(stderr, "fastpool: impossible state: %s (%s:%d)\n", #x, __FILE__, __LINE__);  \
            abort();                                                                              \
        }                                                                                         \
    } while (0)
#else
#define FP_ASSERT(x) ((void)0)
#endif

/* A word that several threads touch.  Orders are named at the place of use. */
#if FP_ATOMIC
#define FP_SHARED(type) _Atomic(type)
#define fp_load(p, order) (FP_STEP(), atomic_load_explicit((p), memory_order_##order))
#define fp_store(p, v, order) (FP_STEP(), atomic_store_explicit((p), (v), memory_order_##order))
#define fp_cas(p, expected, v, order)                                                             \
    (FP_STEP(), atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_##order, \
                                                      memory_order_relaxed))
#else
#define FP_SHARED(type) type
#define fp_load(p, order) (*(p))
#define fp_store(p, v, order) ((void)(*(p) = (v)))
#define fp_cas(p, expected, v, order) (*(p) = (v), 1)
#endif

static inline void *fp_alloc_aligned(size_t bytes, void **raw) {
    *raw = FP_MALLOC(bytes + FP_CACHE_LINE);
    if (*raw == NULL) return NULL;
    void *aligned = (void *)(((uintptr_t)*raw + FP_CACHE_LINE - 1) & ~(uintptr_t)(FP_CACHE_LINE - 1));
    memset(aligned, 0, bytes);
    return aligned;
}

#endif
