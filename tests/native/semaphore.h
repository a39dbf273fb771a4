/* The tests of weighted semaphores; part of harness.c.
 *
 * Holders count what they hold in a number of their own, which orders nothing; and all of the
 * semaphore at once guards a plain word, so that a hand-over that orders nothing is seen by the
 * sanitizer.
 */

enum { UNITS = 5 };

static _Atomic(int) units_held;
static long guarded; /* written by whoever has all, read by whoever has some */

static void use_units(worker *me, int n) {
    int held = atomic_fetch_add_explicit(&units_held, n, memory_order_relaxed) + n;
    if (held > UNITS) fail("%d units of %d at once", held, UNITS);
    long before = guarded;
    if (n == UNITS) guarded = me->number;
    if (dice(8) == 0) sched_yield();
    if (n == UNITS) EQUAL(guarded, me->number);
    else EQUAL(guarded, before);
    me->got++;
    atomic_fetch_sub_explicit(&units_held, n, memory_order_relaxed);
    stepped(me);
}

static void wait_for_units(worker *me, int n) {
    if (!fp_weighted_hit(core, (uint64_t)n)) {
        int interrupted;
        storm = may_be_interrupted;
        int state = fp_weighted_wait(core, (uint64_t)n, some_span(), &interrupted);
        storm = 0;
        stepped(me);
        if (interrupted) return;
        if (state != FP_GRANTED) {
            EQUAL(state, FP_WAITING);
            me->late++;
            return;
        }
    }
    use_units(me, n);
    CHECK(fp_weighted_give(core, (uint64_t)n));
}

static int some_units(void) { return dice(4) == 0 ? UNITS : 1 + (int)dice(UNITS); }

static void take_units(worker *me) {
    for (int i = 0; i < 300; i++) wait_for_units(me, some_units());
}

static void semaphore_of(void) {
    core = fp_core_new();
    core->use = FP_WEIGHTED;
    core->fair = 1;
    fp_weights_set(&core->weights, UNITS, UINT64_MAX);
    fp_spin_ns = dice(2) ? 5000 : 0;
    guarded = 0;
}

static void check_semaphore(void) {
    EQUAL(fp_weights_taken(core), 0u);
    EQUAL(core->getters.count, 0u);
    EQUAL(fp_gate(core) & FP_WAITER_BITS, 0u);
    CHECK(!fp_weighted_give(core, 1));
    CHECK(fp_weighted_hit(core, UNITS));
    CHECK(!fp_weighted_hit(core, 1));
    CHECK(!fp_weighted_give(core, UNITS + 1));
    CHECK(fp_weighted_give(core, UNITS));
    fp_core_empty(core);
    fp_core_retire(core);
}

static void semaphore_rounds(int interrupted) {
    may_wait_for_ever = 1;
    may_be_interrupted = interrupted;
    while (!time_is_up()) {
        semaphore_of();
        runner(THREADS, take_units);
        check_semaphore();
    }
}
static void test_semaphore(void) { semaphore_rounds(0); }
static void test_semaphore_signals(void) { semaphore_rounds(1); }

static void semaphore_duel(worker *me) {
    for (int over = 0; !over;) {
        for (unsigned i = dice(3); i > 0; i--) wait_for_units(me, some_units());
        pthread_barrier_wait(&all_done);
        if (me->number == 1) me->late = (uint64_t)time_is_up();
        pthread_barrier_wait(&all_done);
        over = (int)workers[0].late;
        pthread_barrier_wait(&all_done);
    }
}

/* As line-duel: a wake-up that is lost once is lost for good. */
static void test_semaphore_duel(void) {
    may_wait_for_ever = 2;
    may_be_interrupted = 0;
    semaphore_of();
    pthread_barrier_init(&all_done, NULL, 3);
    runner(3, semaphore_duel);
    check_semaphore();
}

/* ---- Units that are permits of a budget ---- */

static void ask_nobody(fp_core *c) { (void)c; }

/* As units_allow in core/semaphore.pxi. */
static uint64_t allow_units(uint64_t n) {
    fp_defer_begin();
    fp_lock_take(&core->lock);
    core->allowance = n;
    fp_weights_set(&core->weights, UNITS, n);
    fp_dispatch(core);
    uint64_t taken = fp_weights_taken(core);
    fp_lock_drop(&core->lock);
    fp_defer_end();
    return taken;
}

/* The first one is the budget: from the moment on at which fewer are allowed, those that are held are
 * never more than were taken then, or are allowed. */
static void under_budget(worker *me) {
    for (int i = 0; i < 300; i++) {
        if (me->number != 1) {
            wait_for_units(me, 1);
            continue;
        }
        int most = (int)dice(UNITS);
        int taken = (int)allow_units((uint64_t)most);
        if (taken > most) most = taken;
        for (int look = 0; look < 8; look++) {
            int held = atomic_load(&units_held);
            if (held > most) fail("%d units held, and %d were allowed or taken", held, most);
            if (dice(4) == 0) sched_yield();
        }
        stepped(me);
        allow_units(UNITS);
    }
}

static void test_semaphore_budget(void) {
    may_wait_for_ever = 2;
    may_be_interrupted = 0;
    fp_ask_budget = ask_nobody;
    while (!time_is_up()) {
        semaphore_of();
        runner(3, under_budget);
        check_semaphore();
    }
}
