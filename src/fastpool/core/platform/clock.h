/* The two monotonic clocks of the core, in nanoseconds from the same origin.
 *
 * fp_clock_coarse: a few nanoseconds a read, steps of 1 to 16 ms; ages and expiry on the hot path.
 * fp_clock_precise: some 20 ns a read; deadlines, hand-off and measured times.
 */
#ifndef FASTPOOL_CLOCK_H
#define FASTPOOL_CLOCK_H

#include <stdint.h>

#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
static inline int64_t fp_clock_coarse(void) { return (int64_t)GetTickCount64() * 1000000; }
static inline int64_t fp_clock_precise(void) {
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    int64_t s = ticks.QuadPart / per_second.QuadPart, rest = ticks.QuadPart % per_second.QuadPart;
    return s * 1000000000 + rest * 1000000000 / per_second.QuadPart;
}
#else
#include <time.h>
static inline int64_t fp_clock_of(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static inline int64_t fp_clock_precise(void) { return fp_clock_of(CLOCK_MONOTONIC); }
#if defined(CLOCK_MONOTONIC_COARSE)
static inline int64_t fp_clock_coarse(void) { return fp_clock_of(CLOCK_MONOTONIC_COARSE); }
#else
static inline int64_t fp_clock_coarse(void) { return fp_clock_of(CLOCK_MONOTONIC); }
#endif
#endif

#define FP_NEVER INT64_MAX

static inline int64_t fp_later(int64_t now, int64_t span) { /* now + span, at most FP_NEVER */
    return span >= FP_NEVER - now ? FP_NEVER : now + span;
}

#endif
