# Core: the block of a pool or queue, as its manager reaches it.

cdef size_t locked_size(fp_core *c, size_t *size):
    """A number of the slow path, read under its lock."""
    fp_lock_take(&c.lock)
    cdef size_t n = size[0]
    fp_lock_drop(&c.lock)
    return n


cdef class Core:
    """Owns a block; the manager's way to it.  Private.

    Slots are named by their numbers.  Methods that move a slot are for whoever owns it: the caller
    got the number from ``take``, ``reserve`` or ``claim`` and has not given it back since.
    """
    cdef fp_core *c
    cdef object clock  # keeps a manual clock alive
    cdef size_t most_idle  # while more are open a return asks the manager; under the lock
    # of a key of a KeyedPool, under the lock of that
    cdef public Py_ssize_t pins  # callers on their way to its queue, in it, or just leaving it
    cdef public bint forgotten

    def __cinit__(self):
        self.c = fp_core_new()
        self.most_idle = <size_t>-1
        if self.c == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.c != NULL:
            fp_core_empty(self.c)
            fp_core_retire(self.c)

    def set_queue(self, bint lifo, bint fair, double limit, object timeout, double max_waiting):
        """Queue use: order, fairness, most items (inf: no bound), default timeout in seconds."""
        cdef fp_core *c = self.c
        c.use, c.lifo, c.fair = FP_QUEUE, lifo, fair
        c.limit = size_of(limit)
        c.max_waiting = size_of(max_waiting)
        c.timeout_ns = ns_of_timeout(c, timeout)

    def set_pool(self, manager, *, bint lifo, bint fair, double limit, timeout, double max_waiting,
                 double fresh_for, bint timed, bint has_check, bint ask_get, bint ask_put,
                 clock=None):
        """Pool use; times in seconds, inf for never."""
        cdef fp_core *c = self.c
        c.use, c.lifo, c.fair, c.timed = FP_POOL, lifo, fair, timed
        c.has_check = has_check
        c.limit = size_of(limit)
        c.max_waiting = size_of(max_waiting)
        c.timeout_ns = ns_of_timeout(c, timeout)
        c.fresh_for = ns_of(fresh_for)
        if clock is not None:
            self.clock = clock
            c.clock = &(<Ticks?>clock).now
        fp_gate_set(c, (FP_ASK_GET if ask_get else 0) | (FP_ASK_PUT if ask_put else 0))
        Py_INCREF(manager)
        c.manager = <void *>manager

    def set_sharing(self, *, uint32_t slots, double most_uses, uint32_t penalty):
        """After ``set_pool``: many leases of one resource, ``slots`` at most, ``most_uses`` in all; an
        error counts as ``penalty`` of them."""
        cdef fp_core *c = self.c
        c.loads.slots, c.loads.penalty = slots, penalty
        c.loads.most_uses = <uint32_t>min(most_uses, 4294967295.0)
        c.use = FP_SHARING

    def has_capacity(self):
        """Whether one more may be opened."""
        fp_lock_take(&self.c.lock)
        cdef bint free = fp_has_capacity(self.c)
        fp_lock_drop(&self.c.lock)
        return free

    def penalize(self, uint64_t index, double seconds):
        """For so long it counts as more loaded than it is."""
        cdef fp_slot *slot = slot_at(self, index)
        fp_lock_take(&self.c.lock)
        fp_sharing_penalize(self.c, slot, ns_of(seconds))
        fp_lock_drop(&self.c.lock)

    def avoid(self, uint64_t index, bint on):
        """No leases of it from here on, or again."""
        cdef fp_slot *slot = slot_at(self, index)
        fp_lock_take(&self.c.lock)
        fp_sharing_avoid(self.c, slot, on)
        fp_check(self.c)
        fp_lock_drop(&self.c.lock)

    def load(self, uint64_t index):
        """How many leases there are of it."""
        return fp_slot_leases(self.c, slot_at(self, index))

    def peak(self, uint64_t index):
        """How many there were at most since this was asked last."""
        return fp_sharing_peak(slot_at(self, index))

    def drop_manager(self):
        """The pool is gone and nothing is open: undoes the cycle block - manager - block."""
        fp_lock_take(&self.c.lock)
        cdef void *manager = self.c.manager
        self.c.manager = NULL
        fp_lock_drop(&self.c.lock)
        if manager != NULL:
            Py_DECREF(<object>manager)

    @property
    def manager(self):
        """The manager, None once it was dropped."""
        return fp_manager(self.c, 0)

    def now(self):
        """Seconds on the pool's clock, a manual one included."""
        return (self.c.clock[0] if self.c.clock != NULL else fp_clock_precise()) * 1e-9

    def add_held(self, double seconds):
        """Counts a time in use that was measured outside."""
        fp_lock_take(&self.c.lock)
        fp_times_add(&self.c.held, ns_of(seconds))
        fp_lock_drop(&self.c.lock)

    def count(self, str what):
        """One more of ``COUNTED``."""
        cdef int number = COUNTED.index(what)
        fp_lock_take(&self.c.lock)
        self.c.counted[number] += 1
        fp_lock_drop(&self.c.lock)

    def count_created(self, double seconds):
        """A creation went well, and took so long."""
        fp_lock_take(&self.c.lock)
        self.c.counted[0] += 1
        fp_times_add(&self.c.creates, ns_of(seconds))
        fp_lock_drop(&self.c.lock)

    # -- the gate --

    @property
    def closed(self):
        return (fp_gate(self.c) & FP_CLOSED) != 0

    @property
    def suspended(self):
        return (fp_gate(self.c) & FP_SUSPENDED) != 0

    def close(self, *, bint wake=True, then=None):
        """Sets the gate and refuses every waiter, or lets them sleep.  True for the call that did
        it: then the scheduler calls ``then()``."""
        cdef fp_core *c = self.c
        fp_lock_take(&c.lock)
        cdef bint first = (fp_gate(c) & FP_CLOSED) == 0
        fp_gate_set(c, FP_CLOSED)
        if wake:
            fp_refuse_all(&c.getters)
        fp_gate_refresh(c)
        fp_lock_drop(&c.lock)
        if first and then is not None:
            call_soon((0.0, then, ()))
        return first

    def suspend(self):
        fp_lock_take(&self.c.lock)
        fp_gate_set(self.c, FP_SUSPENDED)
        fp_lock_drop(&self.c.lock)

    def resume(self):
        fp_lock_take(&self.c.lock)
        fp_gate_clear(self.c, FP_SUSPENDED)
        fp_dispatch(self.c)
        fp_lock_drop(&self.c.lock)

    def set_sharded(self):
        """Every event loop has a core of its own; this one serves nobody."""
        self.c.sharded = True

    def notify_returns(self, bint on):
        """Whether ``Manager.returned`` is called for whatever comes back."""
        if on:
            fp_gate_set(self.c, FP_NOTIFY)
        else:
            fp_gate_clear(self.c, FP_NOTIFY)

    def ask_get(self, bint on):
        """Whether every get asks the manager."""
        if on:
            fp_gate_set(self.c, FP_ASK_GET)
        else:
            fp_gate_clear(self.c, FP_ASK_GET)

    def ask_put(self, bint on):
        """Whether every return asks the manager."""
        if on:
            fp_gate_set(self.c, FP_ASK_PUT)
        else:
            fp_gate_clear(self.c, FP_ASK_PUT)

    def set_most_idle(self, double n):
        """A return asks the manager while more than so many are open; inf: never for that reason."""
        fp_lock_take(&self.c.lock)
        self.most_idle = size_of(n)
        fp_lock_drop(&self.c.lock)

    def listen(self, bint on):
        """Whether there are listeners: then the manager hears of waits and of uses."""
        fp_lock_take(&self.c.lock)
        self.c.listened = on
        if not on:
            fp_gate_clear(self.c, FP_USED)
        fp_lock_drop(&self.c.lock)

    def set_span(self, double seconds):
        """What a call waits at most unless it says otherwise; inf: for ever."""
        self.c.timeout_ns = ns_of(seconds)

    def reconfigure(self, *, timeout, double max_waiting, double fresh_for, bint timed,
                    double most_idle, bint ask_put):
        """New values of what ``set_pool`` and ``set_most_idle`` have said; readers take them one by
        one."""
        cdef fp_core *c = self.c
        cdef int64_t ns = ns_of_timeout(c, timeout)
        fp_lock_take(&c.lock)
        c.timeout_ns, c.fresh_for, c.timed = ns, ns_of(fresh_for), timed
        c.max_waiting = size_of(max_waiting)
        self.most_idle = size_of(most_idle)
        if ask_put or c.open > self.most_idle:
            fp_gate_set(c, FP_ASK_PUT)
        else:
            fp_gate_clear(c, FP_ASK_PUT)
        fp_lock_drop(&c.lock)

    def set_limit(self, double limit):
        fp_lock_take(&self.c.lock)
        self.c.limit = size_of(limit)
        fp_lock_drop(&self.c.lock)

    @property
    def in_flight(self):
        """Creations of workers and tasks that hold a permit: from their start until their caller has
        been served, those past their deadline left out.  For the creator to write."""
        return self.c.in_flight

    @in_flight.setter
    def in_flight(self, size_t n):
        fp_lock_take(&self.c.lock)
        self.c.in_flight = n
        fp_lock_drop(&self.c.lock)

    @property
    def undelivered(self):
        """Those in flight whose resource nobody can have yet."""
        fp_lock_take(&self.c.lock)
        cdef size_t n = self.c.in_flight - self.c.delivered
        fp_lock_drop(&self.c.lock)
        return n

    def set_allowance(self, double n):
        """So many may be open by the pool's budget; inf: it has none.  How many are open."""
        cdef fp_core *c = self.c
        fp_lock_take(&c.lock)
        c.allowance = size_of(n)
        cdef size_t open_now = c.open
        fp_lock_drop(&c.lock)
        return open_now

    def listen_for_demand(self):
        """The next caller who could only be served by one more permit asks the manager again."""
        fp_lock_take(&self.c.lock)
        self.c.short_of_permits = False
        fp_lock_drop(&self.c.lock)

    @property
    def at_allowance(self):
        """Whether nothing may be opened for want of a permit, and for no other reason."""
        cdef fp_core *c = self.c
        fp_lock_take(&c.lock)
        cdef bint lacking = (
            c.allowance != <size_t>-1 and c.allowance <= c.open and c.open < fp_own_most_open(c)
        )
        fp_lock_drop(&c.lock)
        return lacking

    def resize(self, manager, dict values, double limit):
        """``set_limit``, and with it what the manager says of it."""
        for name, value in values.items():
            setattr(manager, name, value)
        self.set_limit(limit)

    # -- the life of a slot --

    def reserve(self):
        """A slot under the cap as CREATING, or -1 when all are taken."""
        cdef fp_core *c = self.c
        cdef fp_slot *slot = NULL
        fp_lock_take(&c.lock)
        if fp_has_capacity(c) and not fp_gate(c) & FP_CLOSED:
            slot = fp_slots_reserve(&c.slots)
            if slot != NULL:
                c.open += 1
                c.creating += 1
                if c.open > self.most_idle:
                    fp_gate_set(c, FP_ASK_PUT)
                if c.use == FP_SHARING:
                    fp_sharing_reserved(c, slot)
        fp_check(c)
        fp_lock_drop(&c.lock)
        return -1 if slot == NULL else <int64_t>number_of(slot)

    def fill(self, uint64_t index, item, double lifetime):
        """Puts a new resource into a reserved slot, as CHECKING.  False: the pool holds it already."""
        cdef fp_core *c = self.c
        cdef fp_slot *slot = slot_at(self, index)
        cdef int noted = 0
        cdef bint known
        fp_lock_take(&c.lock)
        known = fp_slots_find(&c.slots, <void *>item) != NULL
        if not known:
            noted = fp_slots_note(&c.slots, slot, <void *>item)
            if noted == 0:
                Py_INCREF(item)
                fp_slot_fill(c, slot, ns_of(lifetime))
                c.creating -= 1
                fp_slot_move(slot, FP_CREATING, FP_CHECKING)
        fp_check(c)
        fp_lock_drop(&c.lock)
        if noted < 0:
            raise MemoryError
        return not known

    def adopt(self, item, double lifetime):
        """Takes in a resource that was made elsewhere, idle from here on: True, or False if there is
        no room.  ValueError: the pool holds it already.  One call: it is the caller's or the pool's."""
        index = self.reserve()
        if index < 0:
            return False
        cdef bint known = True
        try:
            known = not self.fill(index, item, lifetime)
        finally:
            if known:
                self.free(index)
        if known:
            raise ValueError
        if not self.publish(index, used=False):  # closed meanwhile: as if it came too late
            rescue(self.c, slot_at(self, index), "closed")
        return True

    def publish(self, uint64_t index, *, bint used=True, bint suspect=False):
        """Makes a CHECKING slot idle and serves the queue.  False: expired, to be retired, or the
        pool is closed; the slot is the caller's still.  ``used``: counts as a return.  ``suspect``:
        its next borrower has it checked."""
        cdef fp_core *c = self.c
        cdef fp_slot *slot = slot_at(self, index)
        if c.use == FP_SHARING:
            return share_lend(c, slot, 0)
        if fp_gate(c) & FP_CLOSED or (used and not fp_pool_end(c, slot)):
            return False
        if suspect:
            fp_slot_suspect(slot)
        fp_defer_begin()
        fp_lock_take(&c.lock)
        cdef bint idle = publish_slot(c, slot)
        fp_lock_drop(&c.lock)
        fp_defer_end()
        return idle

    def recycle(self, uint64_t index, double most_idle, bint suspect=False):
        """``publish`` of what comes back, unless so many are idle already: "surplus".  "unfit": as
        False there; None: it is idle.  One step, so no more are kept than may be idle."""
        return core_keep(self.c, slot_at(self, index), most_idle, suspect)

    def resets_overdue(self, double most):
        """How many plain resets have been under way for so many seconds."""
        fp_lock_take(&self.c.lock)
        cdef size_t n = fp_resets_overdue(self.c, ns_of(most))
        fp_lock_drop(&self.c.lock)
        return n

    def claim(self, uint64_t index, from_="idle"):
        """Takes one slot out of IDLE or LEASED as CHECKING; False if it was not in that state.  In a
        shared pool, which is to be closed, "leased" ends all leases of it."""
        cdef fp_slot *slot = slot_at(self, index)
        if self.c.use == FP_SHARING:
            return (fp_sharing_claim(slot) if from_ == "idle" else fp_sharing_seize(slot)) != 0
        if from_ == "idle":
            return fp_end_idle(self.c, slot) != 0
        return fp_slot_move(slot, FP_LEASED, FP_CHECKING) != 0

    def end_idle(self, uint64_t index, close, str why):
        """Takes one slot out of IDLE and has it closed by ``close(index, why)``; False if it was
        not idle; in a shared pool one that is in use takes no more leases, nor one that is being
        made.  What that leaves undone, should a signal handler raise, the pool's threads do."""
        cdef fp_core *c = self.c
        cdef fp_slot *slot = slot_at(self, index)
        if c.use == FP_SHARING:
            if not share_bar(c, slot):
                return False
        elif not fp_end_idle(c, slot):
            return False
        cdef uint64_t generation = fp_slot_generation(slot)
        cdef uint64_t id = fp_id_of(c)
        try:
            close(index, why)
        except BaseException:
            leave(c, id, slot, generation, why)
            raise
        return True

    def lend(self, uint64_t index):
        """CHECKING -> LEASED, for a borrower whose check went well."""
        cdef fp_slot *slot = slot_at(self, index)
        if self.c.use == FP_SHARING:
            share_lend(self.c, slot, 1)  # one that takes no more is lent this once
            return True
        return fp_slot_move(slot, FP_CHECKING, FP_LEASED) != 0

    def suspect(self, uint64_t index):
        """Whoever is the next to have it alone has it checked."""
        fp_slot_suspect(slot_at(self, index))

    def is_suspect(self, uint64_t index):
        """Whether a block that an exception left was its last use that says anything."""
        return fp_slot_is_suspect(slot_at(self, index)) != 0

    def freshen(self, uint64_t index):
        """The CHECKING slot was just found well: no question for another while."""
        fp_slot_freshen(self.c, slot_at(self, index))

    def retire(self, uint64_t index):
        """CHECKING -> CLOSING; False if somebody else did that."""
        return fp_retire(self.c, slot_at(self, index)) != 0

    def is_ending(self, uint64_t index, use):
        """Whether this use of the slot is to be ended by the caller: no close hook is under way."""
        cdef fp_slot *slot = slot_at(self, index)
        return fp_slot_generation(slot) == <uint64_t>use and fp_slot_hook(slot) != FP_IN_HOOK

    def generation(self, uint64_t index):
        """Names this use of the slot; see ``free``."""
        return fp_slot_generation(slot_at(self, index))

    def free(self, uint64_t index, str why=None, generation=None):
        """Gives a CREATING or CLOSING slot back: the slot is free once more.  ``why`` its resource was
        closed is counted.  The manager is notified on the scheduler's thread.  ``generation``: nothing
        is done, and False returned, if somebody else has freed it since."""
        return free_slot(self, slot_at(self, index), why, generation)

    def slot(self, uint64_t index):
        """One entry of ``slots()``."""
        cdef fp_view view
        fp_view_of(self.c, slot_at(self, index), &view)
        return view_tuple(&view)

    def item(self, uint64_t index):
        """The resource in a slot; None if it is gone by now."""
        cdef fp_slot *slot = slot_at(self, index)
        fp_lock_take(&self.c.lock)  # whoever takes it out of the slot releases it after that
        cdef void *item = fp_load_item(slot)
        if item != NULL:
            Py_INCREF(<object>item)
        fp_lock_drop(&self.c.lock)
        return None if item == NULL else fp_steal(item)

    def find(self, item):
        """The number of the slot that holds this object, or -1."""
        fp_lock_take(&self.c.lock)
        cdef fp_slot *slot = fp_slots_find(&self.c.slots, <void *>item)
        fp_lock_drop(&self.c.lock)
        return -1 if slot == NULL else <int64_t>number_of(slot)

    def mark_retire(self, double most=INFINITY, *, bint lent=False):
        """RETIRE on up to ``most`` open slots, or on lent ones alone: each is closed when it comes back.
        How many."""
        cdef fp_core *c = self.c
        fp_lock_take(&c.lock)
        cdef size_t marked = fp_mark_retire(c, size_of(most), lent)
        fp_lock_drop(&c.lock)
        return marked

    def slots(self):
        """A snapshot under the lock, each slot read once:
        ``[(index, state, since, dies_at, uses, owner, retire)]``, times in seconds."""
        return views_of(self.c)

    def counts(self):
        """One consistent look: a dict of sizes, uses and times."""
        cdef fp_core *c = self.c
        cdef fp_counts n
        fp_lock_take(&c.lock)
        fp_count(c, &n)
        fp_lock_drop(&c.lock)
        shared = {"leases": n.leases, "draining": n.draining} if c.use == FP_SHARING else {}
        return counts_dict(&n) | shared

    def has_idle(self, size_t least):
        """Whether at least so many are idle."""
        fp_lock_take(&self.c.lock)
        cdef bint has = fp_has_idle(self.c, least)
        fp_lock_drop(&self.c.lock)
        return has

    def oldest(self):
        """(since when it has been idle, its number) of the slot idle longest, if nobody waits here or is
        about to; else the number is -1."""
        cdef fp_old oldest[1]
        cdef size_t n = 0
        fp_oldest_add(self.c, oldest, &n, 1)
        if n == 0:
            return 0.0, -1
        return oldest[0].since * 1e-9, number_of(fp_slots_at(&self.c.slots, oldest[0].index))

    @property
    def creating(self):
        return locked_size(self.c, &self.c.creating)

    def in_use(self):
        """Whether any is open and not idle."""
        return fp_busy(self.c, 0, 0) != 0

    def busy(self, uintptr_t holder, bint lent=False):
        """How many are open but neither idle nor lent to blocks of this thread or task; ``lent``: of
        those only the ones that are lent, to others."""
        return fp_busy(self.c, holder, lent)

    @property
    def open(self):
        return locked_size(self.c, &self.c.open)

    @property
    def waiting(self):
        return locked_size(self.c, &self.c.getters.count)

    @property
    def callers(self):
        """Those who wait, and those on their way to the queue."""
        fp_lock_take(&self.c.lock)
        cdef size_t n = self.c.getters.count + self.c.arriving
        fp_lock_drop(&self.c.lock)
        return n

    # -- waiting --

    def announce_waiter(self, SlotGuard guard not None):
        """The caller asks for a creation and is about to ``take``."""
        fp_lock_take(&self.c.lock)
        self.c.arriving += 1
        guard.announced, guard.forks = True, fp_forks
        fp_lock_drop(&self.c.lock)

    @property
    def demand(self):
        """Callers who wait or are about to, less what is idle for them."""
        fp_lock_take(&self.c.lock)
        cdef size_t n = fp_demand(self.c)
        fp_lock_drop(&self.c.lock)
        return n

    def take(self, SlotGuard guard not None, timeout, *, bint in_front=False):
        """Waits for a slot as LEASED, at most ``timeout`` seconds, and guards it.

        Returns "fresh"; "due": the manager has to look at it first; or why there is none: "timeout",
        "closed", "overloaded", "deadlock" or "may open": one more may be opened, so ``announce_waiter``,
        start a creation and take once more; "may open at head": likewise, and its position in the queue
        is kept; "stolen": somebody has given it back wrongly meanwhile, so take once more.  Raises the
        factory's own failure for the one waiter it was tried for, and whatever a signal handler raises.
        """
        cdef fp_core *c = self.c
        cdef fp_slot *slot = NULL
        cdef uint64_t generation = 0
        cdef bint asked = slot_guard_announced(guard)
        cdef int64_t ns = ns_of_timeout(c, timeout)
        guard.announced = False
        cdef int state = pool_wait(c, ns, asked, in_front, &slot, &generation)
        if state == FP_GRANTED:
            slot_guard_set(guard, slot, generation)
            return slot_guard_begin(guard)
        return REASONS[state]

    def waits_since(self, size_t skip):
        """When the waiter behind the first ``skip`` joined, in seconds; inf: the queue is shorter."""
        fp_lock_take(&self.c.lock)
        cdef int64_t since = fp_waits_since(self.c, skip)
        fp_lock_drop(&self.c.lock)
        return seconds_of(since)

    def assign(self):
        """The ticket of the waiter for whom the next creation is; 0 when nobody waits."""
        fp_lock_take(&self.c.lock)
        cdef uint64_t ticket = fp_assign(self.c)
        fp_lock_drop(&self.c.lock)
        return ticket
