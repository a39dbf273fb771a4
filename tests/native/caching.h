/* The tests of object caches; part of harness.c.
 *
 * An object is with one thread, in the cache, or with nobody: `holder` is a plain word that each of
 * these hand over, so two owners see each other and the sanitizer sees a hand-over that orders nothing.
 */

static fp_cache cache;
static pthread_mutex_t nobody = PTHREAD_MUTEX_INITIALIZER;
static resource *unmade[64]; /* under `nobody` */
static int unmade_count;
static long made_objects, dropped_objects; /* likewise */

static resource *make_object(void) { /* or NULL: all are in the cache, which nobody found */
    pthread_mutex_lock(&nobody);
    resource *r = unmade_count > 0 ? unmade[--unmade_count] : NULL;
    made_objects += r != NULL;
    pthread_mutex_unlock(&nobody);
    return r;
}

static void let_go(void *item) {
    resource *r = (resource *)item;
    CHECK(r->holder == 0);
    pthread_mutex_lock(&nobody);
    for (int i = 0; i < unmade_count; i++) CHECK(unmade[i] != r);
    unmade[unmade_count++] = r;
    dropped_objects++;
    pthread_mutex_unlock(&nobody);
}

static void begin_cache(void) {
    forget_all();
    memset(&cache, 0, sizeof cache);
    for (unmade_count = 0; unmade_count < 64; unmade_count++)
        unmade[unmade_count] = &resources[unmade_count];
    made_objects = dropped_objects = 0;
    fp_cache_begin(&cache);
}

static void end_cache(void) {
    fp_cache_end(&cache, let_go);
    EQUAL(made_objects, dropped_objects);
    EQUAL(unmade_count, 64);
    CHECK(fp_caches == NULL);
}

static void turn(void) {
    fp_deque dropped;
    (void)fp_caches_advance(&dropped);
    while (dropped.count != 0) let_go(fp_deque_pop_head(&dropped));
    free(dropped.cells);
}

static resource *get_object(worker *me) {
    resource *r;
    while ((r = (resource *)fp_cache_get(&cache)) == NULL) {
        me->missed++;
        if ((r = make_object()) != NULL) break;
    }
    if (r->holder != 0) fail("%d has got what %ld holds", me->number, r->holder);
    r->holder = me->number;
    me->got++;
    return r;
}

static void put_object(worker *me, resource *r) {
    if (r->holder != me->number) fail("%ld took over from %d", r->holder, me->number);
    r->holder = 0;
    int watch = 0;
    void *dropped = fp_cache_put(&cache, r, &watch);
    if (dropped != NULL) let_go(dropped);
    stepped(me);
}

/* Up to four at once, so that they come from the shard's deque and go there as well. */
static void borrow_some(worker *me) {
    while (!time_is_up()) {
        resource *held[4];
        unsigned n = 1 + dice(4);
        for (unsigned i = 0; i < n; i++) held[i] = get_object(me);
        for (unsigned i = 0; i < n; i++) put_object(me, held[i]);
    }
}

static void turn_often(worker *me) {
    while (!time_is_up()) {
        turn();
        stepped(me);
        usleep(50);
    }
}

/* Threads that borrow while epochs end: nothing is lost, nothing is with two. */
static void test_cache(void) {
    begin_cache();
    start(0, THREADS, borrow_some);
    start(THREADS, 1, turn_often);
    finish(0, THREADS + 1);
    end_cache();
}

static void borrow_and_end(worker *me) {
    resource *a = get_object(me), *b = get_object(me);
    put_object(me, a);
    put_object(me, b);
    if (dice(2) == 0) put_object(me, get_object(me));
}

/* Threads end and leave what they have put; there are fewer numbers than threads. */
static void test_cache_threads(void) {
    numbers_used = 3;
    begin_cache();
    while (!time_is_up()) {
        runner(THREADS, borrow_and_end);
        if (dice(4) == 0) turn();
    }
    end_cache();
    EQUAL(atomic_load(&fp_thread_indexes[0]), 0);
    numbers_used = FP_MOST_THREADS;
}

static pthread_mutex_t turns = PTHREAD_MUTEX_INITIALIZER;

static void borrow_alone(worker *me) {
    while (!time_is_up()) {
        pthread_mutex_lock(&turns);
        put_object(me, get_object(me));
        pthread_mutex_unlock(&turns);
    }
}

/* One at a time, and no epoch ends: whoever put it last, the one object that there is is found. */
static void test_cache_exact(void) {
    begin_cache();
    runner(THREADS, borrow_alone);
    EQUAL(made_objects, 1);
    EQUAL(SUM(missed), 1);
    end_cache();
}

static void as_thread(uint32_t number) { fp_own_index.strip = 1, fp_own_index.offset = number; }

/* Step by step: the order of a get, and what two epochs drop. */
static void test_cache_order(void) {
    worker *me = &workers[0];
    me->number = 1;
    do {
        begin_cache();
        as_thread(0);
        resource *held[6];
        for (int i = 0; i < 6; i++) held[i] = get_object(me);
        for (int i = 0; i < 4; i++) put_object(me, held[i]);
        for (int i = 3; i >= 0; i--) CHECK(get_object(me) == held[i]); /* its own: the last first */

        put_object(me, held[0]);
        put_object(me, held[1]);
        turn();
        as_thread(1);
        for (int i = 2; i < 6; i++) put_object(me, held[i]);
        as_thread(0);
        CHECK(get_object(me) == held[2]); /* what others have put, the oldest first */
        CHECK(get_object(me) == held[3]);
        CHECK(get_object(me) == held[4]);
        CHECK(get_object(me) == held[1]); /* its own old ones, the last first */
        CHECK(get_object(me) == held[0]);
        CHECK(get_object(me) == held[5]); /* what another put last */
        CHECK(fp_cache_get(&cache) == NULL);

        as_thread(2);
        put_object(me, held[0]);
        put_object(me, held[1]);
        turn();
        as_thread(3);
        CHECK(get_object(me) == held[0]); /* old ones of others, the oldest first */
        CHECK(get_object(me) == held[1]);

        for (int i = 0; i < 4; i++) put_object(me, held[i]);
        turn();
        EQUAL(dropped_objects, 0);
        put_object(me, held[4]);
        CHECK(get_object(me) == held[4]); /* the new generation first */
        CHECK(get_object(me) == held[3]);
        turn();
        EQUAL(dropped_objects, 3);
        put_object(me, held[3]);
        put_object(me, held[4]);
        int watch = 0;
        CHECK(fp_cache_put(&cache, held[4], &watch) == held[4]); /* twice running: kept once */
        put_object(me, held[5]);
        turn();
        turn();
        EQUAL(dropped_objects, 6);
        end_cache();
    } while (!time_is_up());
    as_thread(0);
}
