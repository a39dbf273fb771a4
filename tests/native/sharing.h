/* The tests of shared pools: several leases of one resource; part of harness.c.
 *
 * Holders of one resource are counted, and read its `closed`, a plain word that whoever closes it
 * writes: so a close that does not come after the last return is seen by the sanitizer as well.  The
 * counts themselves order nothing.
 */

enum { SLOTS = 3 };

static _Atomic(int) holders[64];
static _Atomic(int) made, ended; /* resources */

static void share(worker *me, resource *r) {
    int n = atomic_fetch_add_explicit(&holders[r - resources], 1, memory_order_relaxed) + 1;
    if (n > (int)core->loads.slots) fail("%d leases of one resource at once", n);
    CHECK(!r->closed);
    me->got++;
    if (dice(8) == 0) sched_yield();
    CHECK(!r->closed);
    atomic_fetch_sub_explicit(&holders[r - resources], 1, memory_order_relaxed);
    stepped(me);
}

static int lend(fp_slot *slot) {
    fp_lock_take(&core->lock);
    int lent = fp_sharing_lend(core, slot, FP_CHECKING, 0);
    fp_check(core);
    fp_lock_drop(&core->lock);
    return lent;
}

static int live(void) { return atomic_load(&made) - atomic_load(&ended); }

static void end_resource(fp_slot *slot) { /* CHECKING, and ours */
    resource *r = (resource *)fp_load_item(slot);
    CHECK(fp_slot_move(slot, FP_CHECKING, FP_CLOSING));
    EQUAL(atomic_load_explicit(&holders[r - resources], memory_order_relaxed), 0);
    CHECK(!r->closed);
    r->closed = 1;
    atomic_fetch_add(&ended, 1);
    release_slot(slot);
}

static fp_slot *reserve_shared(void) {
    fp_slot *slot = NULL;
    fp_lock_take(&core->lock);
    if (fp_has_capacity(core) && !(fp_gate(core) & FP_CLOSED)) {
        slot = fp_slots_reserve(&core->slots);
        fp_sharing_reserved(core, slot);
        core->open++;
        core->creating++;
    }
    fp_check(core);
    fp_lock_drop(&core->lock);
    return slot;
}

/* One more resource, if there is free capacity; the numbers of those that are gone are not used
 * again. */
static int open_one(void) {
    fp_slot *slot = reserve_shared();
    if (slot == NULL) return 0;
    int i = atomic_fetch_add(&made, 1);
    fill(slot, &resources[i]);
    if (!lend(slot)) end_resource(slot);
    return 1;
}

static void shared_pool_of(int open, int slots) {
    core = fp_core_new();
    core->use = FP_SHARING;
    core->fair = fair;
    core->limit = (size_t)open;
    core->loads.slots = (uint32_t)slots;
    core->loads.most_uses = UINT32_MAX;
    fp_spin_ns = dice(2) ? 5000 : 0;
    forget_all();
    memset(holders, 0, sizeof holders);
    atomic_store(&made, 0);
    atomic_store(&ended, 0);
    while (live() < open) CHECK(open_one());
}

static void give_lease_back(fp_slot *slot) {
    int notify = 0, given = fp_sharing_return(core, slot, &notify);
    if (given == 0) end_resource(slot);
    CHECK(given >= 0);
}

static void check_shared_pool(int expected) {
    uint64_t uses = core->retired_uses;
    int open = 0;
    EQUAL(core->open, (size_t)expected);
    EQUAL(live(), expected);
    EQUAL(core->getters.count, 0u);
    EQUAL(core->creating, 0u);
    EQUAL(fp_gate(core) & FP_WAITER_BITS, 0u);
    FP_EACH_SLOT(core, slot)
    if (fp_slot_state(slot) != FP_FREE_SLOT) {
        EQUAL(fp_slot_state(slot), FP_IDLE);
        EQUAL(fp_slot_leases(core, slot), 0u);
        uses += fp_slot_uses(core, slot);
        open++;
    }
    EQUAL(open, expected);
    if (atomic_load(&ended) == 0) CHECK(uses >= SUM(got));
    fp_core_empty(core);
    fp_core_retire(core);
}

static void lease_once(worker *me) {
    fp_slot *due, *slot = fp_sharing_hit(core, &due);
    if (slot == NULL) {
        me->missed++;
        stepped(me);
        return;
    }
    share(me, (resource *)fp_load_item(slot));
    give_lease_back(slot);
}

static void lease_and_return(worker *me) {
    while (!time_is_up()) lease_once(me);
}

/* More threads than slots: no resource has one lease too many. */
static void test_shared(void) {
    shared_pool_of(2, 2);
    runner(THREADS, lease_and_return);
    check_shared_pool(2);
}

/* As many slots as threads, of one resource: a try never comes back empty-handed. */
static void test_shared_exact(void) {
    shared_pool_of(1, 4);
    runner(4, lease_and_return);
    EQUAL(SUM(missed), 0);
    check_shared_pool(1);
}

/* One blocking lease. */
static void wait_and_share(worker *me) {
    fp_slot *due, *slot = fp_sharing_hit(core, &due);
    if (slot == NULL) {
        void *error = NULL;
        int interrupted;
        fp_lock_take(&core->lock);
        core->arriving++; /* there is no manager here to ask for one more */
        fp_lock_drop(&core->lock);
        storm = may_be_interrupted;
        uint64_t granted = 0;
        int state =
            fp_pool_wait(core, fp_thread_token(), some_span(), 1, 0, &slot, &granted, &error, &interrupted);
        storm = 0;
        stepped(me);
        if (slot == NULL) {
            me->late += state == FP_WAITING;
            me->refused += state == FP_REFUSED;
            CHECK(state == FP_WAITING || state == FP_REFUSED || state == FP_MAY_OPEN_AT_HEAD);
            return;
        }
        EQUAL(state, FP_GRANTED);
        if (interrupted) {
            give_lease_back(slot);
            return;
        }
    }
    share(me, (resource *)fp_load_item(slot));
    give_lease_back(slot);
}

static void share_a_while(worker *me) {
    for (int i = 0; i < 300 && me->refused == 0; i++) wait_and_share(me);
}

static void shared_queue_of(int interrupted) {
    may_wait_for_ever = 1;
    may_be_interrupted = interrupted;
    while (!time_is_up()) {
        fair = (int)dice(2);
        shared_pool_of(2, 2);
        runner(THREADS, share_a_while);
        check_shared_pool(2);
    }
}
static void test_shared_queue(void) { shared_queue_of(0); }
static void test_shared_signals(void) { shared_queue_of(1); }

static void shared_duel(worker *me) {
    for (int over = 0; !over;) {
        for (unsigned i = dice(3); i > 0; i--) wait_and_share(me);
        pthread_barrier_wait(&all_done);
        if (me->number == 1) me->late = (uint64_t)time_is_up();
        pthread_barrier_wait(&all_done);
        over = (int)workers[0].late;
        pthread_barrier_wait(&all_done);
    }
}

/* As line-duel: a wake-up that is lost once is lost for good. */
static void test_shared_duel(void) {
    may_wait_for_ever = 2;
    fair = (int)dice(2);
    shared_pool_of(1, 1);
    pthread_barrier_init(&all_done, NULL, 3);
    runner(3, shared_duel);
    check_shared_pool(1);
}

/* ---- Resources that come and go under load ---- */

static void bar_some(worker *me) {
    for (int i = 0; i < 20; i++) {
        for (unsigned k = dice(30); k > 0; k--) sched_yield();
        fp_slot *slot = fp_slots_at(&core->slots, dice(4));
        fp_lock_take(&core->lock);
        int mine = slot->index < core->loads.top && fp_sharing_bar(core, slot);
        fp_lock_drop(&core->lock);
        if (mine) end_resource(slot);
        while (open_one()) {}
        stepped(me);
    }
}

/* A resource that is barred is closed once, when its last lease is back and not before, and never are
 * more than twice as many open as the cap allows. */
static void test_shared_drain(void) {
    may_wait_for_ever = 1;
    while (!time_is_up()) {
        fair = (int)dice(2);
        shared_pool_of(2, SLOTS);
        start(8, 2, bar_some);
        runner(4, share_a_while);
        finish(8, 2);
        while (open_one()) {}
        CHECK(core->open <= 2 * core->limit);
        check_shared_pool(2);
    }
}

static void look_at_some(worker *me) {
    for (int i = 0; i < 40; i++) {
        fp_slot *slot = fp_slots_at(&core->slots, dice(2));
        if (fp_load_shut(slot)) {
            resource *r = (resource *)fp_load_item(slot);
            CHECK(fp_slot_move(slot, FP_IDLE, FP_CHECKING));
            EQUAL(atomic_load_explicit(&holders[r - resources], memory_order_relaxed), 0);
            for (unsigned k = dice(10); k > 0; k--) sched_yield();
            if (!lend(slot)) end_resource(slot);
        }
        sched_yield();
        stepped(me);
    }
}

/* Who looks at a resource has it alone. */
static void test_shared_alone(void) {
    may_wait_for_ever = 1;
    while (!time_is_up()) {
        fair = (int)dice(2);
        shared_pool_of(2, SLOTS);
        start(8, 1, look_at_some);
        runner(4, share_a_while);
        finish(8, 1);
        check_shared_pool(2);
    }
}

static void share_until_closed(worker *me) {
    while (me->refused == 0) wait_and_share(me);
}

static void test_shared_close(void) {
    may_wait_for_ever = 1;
    while (!time_is_up()) {
        fair = (int)dice(2);
        shared_pool_of(3, 2);
        start(0, 4, share_until_closed);
        for (unsigned i = dice(200); i > 0; i--) sched_yield();
        fp_lock_take(&core->lock);
        fp_gate_set(core, FP_CLOSED);
        fp_refuse_all(&core->getters);
        fp_gate_refresh(core);
        fp_lock_drop(&core->lock);
        FP_EACH_SLOT(core, slot) {
            fp_lock_take(&core->lock);
            int mine = fp_sharing_bar(core, slot);
            fp_lock_drop(&core->lock);
            if (mine) end_resource(slot);
        }
        finish(0, 4);
        check_shared_pool(0);
    }
}

/* One step at a time: what is to be closed is not lent again after a look at it. */
static void test_shared_retire(void) {
    shared_pool_of(1, 1);
    fp_slot *slot = fp_slots_at(&core->slots, 0);
    CHECK(fp_sharing_claim(slot));
    CHECK(!fp_sharing_bar(core, slot)); /* somebody has it: they will find out */
    CHECK(!lend(slot));
    end_resource(slot);
    check_shared_pool(0);
}

/* What drains leaves room for another, but for no more than twice the cap. */
static void test_shared_capacity(void) {
    fp_slot *due, *held[2];
    shared_pool_of(1, 2);
    CHECK(!open_one());
    for (int i = 0; i < 2; i++) {
        held[i] = fp_sharing_hit(core, &due);
        CHECK(held[i] != NULL);
        CHECK(!fp_sharing_bar(core, held[i]));
        EQUAL(open_one(), i == 0);
    }
    for (int i = 0; i < 2; i++) give_lease_back(held[i]);
    CHECK(open_one());
    check_shared_pool(1);
}
