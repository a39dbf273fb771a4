# Lease: the right to one resource, from its begin to its end.

cdef str ENTERED = "this lease was entered before; call lease() for each block"


cdef object lease_ended(fp_core *c, fp_slot *slot, uint64_t generation, int given):
    """For the fast method of ``__exit__``."""
    if given > 0:
        notify_manager(c)
    elif given == 0:
        pool_give_back(c, slot, generation, None, False)


# ``__enter__`` of a block, or ``acquire``, by this thread or task: the resource.
cdef inline object lease_enter(Lease self, uintptr_t me, bint block):
    cdef fp_lease *l = &self.of
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = NULL
    if fp_lease_state(l) != FP_LEASE_FRESH:
        return lease_again(self, me)
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    if fp_id_of(c) == id:
        slot = fp_pool_hit(c, &due)
    if slot == NULL or (FP_ATOMIC and fp_id_of(c) != id):
        slot = lease_miss(self, c, id, slot, due)
    return lease_hold(self, c, id, slot, me, block)


cdef fp_slot *lease_miss(
    Lease self, fp_core *c, uint64_t id, fp_slot *slot, fp_slot *due
) except NULL:
    """Not at once: waits, or asks the manager."""
    lease_stays(self, c, id, slot, due)
    return pool_lend(c, id, self.of.timeout_ns, due)


cdef int lease_stays(
    Lease self, fp_core *c, uint64_t id, fp_slot *slot, fp_slot *due
) except -1:
    """PoolClosed if its pool is gone.  The block may have gone to another pool while a slot was being
    taken there, which that one gets back."""
    if fp_id_of(c) == id:
        return 0
    if due != NULL:
        slot = due
    if slot != NULL:
        slot_drop(c, slot, fp_slot_generation(slot))
    if not fp_lease_is_fresh(&self.of):
        lease_entered(self)  # by another thread: the core was that one's
    from fastpool.errors import PoolClosed
    raise PoolClosed("a pool", "the pool of this lease is gone")


# Gives it the slot, which is the caller's: the resource.
cdef inline object lease_hold(
    Lease self, fp_core *c, uint64_t id, fp_slot *slot, uintptr_t me, bint block
):
    cdef uint64_t generation = fp_slot_generation(slot)
    fp_slot_own(slot, me | block)
    resource = fp_resource(slot)  # these before it is held: then another thread may end it
    if not fp_lease_hold(
        &self.of, c, id, slot, generation, FP_LEASE_BLOCK if block else FP_LEASE_HELD
    ):
        slot_drop(c, slot, generation)  # two threads or tasks have waited with the same lease
        lease_entered(self)
    return resource


@cython.freelist(64)
cdef class Lease:
    """Lease()\n--\n
    The right to one resource: made by ``FastPool.lease`` and ``FastPool.acquire``.

    Holds no Python object, so making one costs some 15 ns and it is never part of a cycle.  It keeps
    the pool's memory block alive, not the pool.  Collected unreleased, it closes its resource and
    warns once (ResourceWarning).
    """
    cdef fp_lease of

    def __enter__(self):
        return lease_enter(self, fp_thread_token(), True)

    def __exit__(self, kind, error, trace):
        if fp_lease_end(&self.of, FP_LEASE_RELEASED):
            lease_give(&self.of, error, False)

    @cython.always_allow_keywords(False)
    def _hit(self):
        """``lease_hit`` for a block."""
        return lease_hit(self, True)

    def __aexit__(self, kind, error, trace):
        """``__exit__`` for a task: an awaitable, done unless hooks run; those run on a worker."""
        return lease_aexit(self, error)

    @property
    def resource(self):
        """The resource, while the lease is held."""
        cdef PyObject *item = fp_lease_resource(&self.of)
        if item == NULL:
            lease_not_held(self, "resource")
        return fp_steal(item)

    def release(self):
        """Gives the resource back; once."""
        if not (fp_lease_end(&self.of, FP_LEASE_RELEASED) and lease_give(&self.of, None, False)):
            lease_not_held(self, "release")

    def discard(self):
        """Closes the resource instead of giving it back; once.  A ``with`` block's end does nothing
        more."""
        if not (fp_lease_end(&self.of, FP_LEASE_DISCARDED) and lease_give(&self.of, None, True)):
            lease_not_held(self, "discard")

    def retire(self):
        """Has the resource closed when it comes back, and not lent again."""
        if not lease_is_held(&self.of):
            lease_not_held(self, "retire")
        fp_slot_retire_own(self.of.slot, self.of.generation)

    def info(self):
        """A ``ResourceInfo``: the age of the resource, how often it was lent, and for how long it was
        not given back; asked when the lease begins, for how long it lay idle before."""
        if not lease_is_held(&self.of):
            lease_not_held(self, "info")
        return info_of(fp_lease_core(&self.of), self.of.slot)

    def __dealloc__(self):
        if fp_lease_end(&self.of, FP_LEASE_RELEASED) and not is_finalizing():
            lease_lost(&self.of)

    def __reduce__(self):
        return refuse_copy(self, lease_pool(&self.of))

    def __repr__(self):
        return handle_shown(self, lease_name(&self.of), &self.of)


# The end of a lease, which the caller has ended; with the exception that left the block, or to discard.
# False: its resource was given back before, by another way.
cdef bint lease_give(fp_lease *l, object error, bint discard) except -1:
    cdef fp_core *c = fp_lease_core(l)
    cdef int notify = 0
    cdef int given = 0
    if not fp_lease_is_live(l):  # gone, or the parent's
        return True
    if error is None and not discard:
        given = fp_pool_return(c, l.slot, l.generation, &notify)
        if notify:
            notify_manager(c)
        if given != 0:
            return given > 0
    return pool_give_back(c, l.slot, l.generation, error, discard)


cdef object lease_lost(fp_lease *l):
    """It was collected unreleased.  Its slot is the pool's in one step, which is done whatever a signal
    handler raises while that is looked for which only a warning wants."""
    cdef fp_core *c = fp_lease_core(l)
    cdef uint64_t id = fp_lease_id(l)
    manager = fp_manager(c, id)
    if manager is None or not fp_slot_lent(c, l.slot, l.generation):
        return
    where = None
    try:
        where = manager.taken_at(number_of(l.slot))
    finally:
        if fp_id_of(c) == id and fp_slot_move_own(l.slot, l.generation, FP_LEASED, FP_CHECKING):
            rescue(c, l.slot, "lost")
        else:
            manager = None
    if manager is not None:
        manager.warn_lost(where)


cdef object lease_again(Lease self, uintptr_t me):
    """It is not fresh: ``acquire``d and now used as a block, or an error."""
    cdef fp_lease *l = &self.of
    cdef PyObject *item = fp_lease_resource(l)
    if item == NULL:
        lease_entered(self)
    resource = fp_steal(item)
    if not fp_lease_move(l, FP_LEASE_HELD, FP_LEASE_BLOCK):
        lease_entered(self)
    cdef fp_core *c = fp_lease_core(l)
    fp_lock_take(&c.lock)  # under which a slot becomes free: then that word says another thing
    if fp_lease_is_live(l) and fp_slot_lent(c, l.slot, l.generation):
        fp_slot_own(l.slot, me | 1)
    fp_lock_drop(&c.lock)
    return resource


cdef object lease_entered(Lease self):
    from fastpool.errors import PoolError
    raise PoolError(lease_pool(&self.of), ENTERED)


cdef object lease_not_held(Lease self, str act):
    from fastpool.errors import PoolError
    raise PoolError(lease_pool(&self.of), not_held(&self.of, act))


# Why nothing can be done with a lease that is not held.
cdef str not_held(fp_lease *l, str act):
    if fp_lease_is_fresh(l):
        return f"{act}: this lease was not entered yet"
    if fp_lease_is_held(l) and not fp_lease_is_live(l):
        return f"{act}: the pool of this lease is gone, or the parent process has it"
    return f"{act}: this lease has been released or discarded"


cdef str lease_name(fp_lease *l):
    """The name of its pool for a text: in quotes, if it is known."""
    name = lease_pool(l)
    return name if name == "a pool" else repr(name)


cdef object lease_pool(fp_lease *l):
    manager = fp_manager(fp_lease_core(l), fp_lease_id(l))
    return "a pool" if manager is None else manager.name
