# The same for calls that an event loop makes: AioDispatcher, CallSlot, AioCall.  Such a call returns at once, and its
# slot is free when the call says that it is over.

cdef class AioDispatcher:
    """The connections that one event loop uses for some methods.  What is not the hot path is a
    subclass's: ``look_up(carrier, number)`` returns what makes a call on a new CallConnection,
    ``failed(carrier, status)`` hears of calls that did not go well, ``came_back()`` of each that ends
    while ``told`` is set, and ``hook(call, hold)`` has ``hold`` called at the end of a call that is not
    grpc's plain one.  While calls are ``lined`` up for a slot, a new one goes behind them."""
    cdef readonly SharedPool pool
    cdef readonly object loop
    cdef bint has_thread     # the loop says in which thread it runs
    cdef public bint lined   # calls wait for a slot
    cdef public bint told    # of each call that ends
    cdef readonly set active  # the holds of calls under way

    def __cinit__(self, *args, **kwargs):
        self.active = set()

    def lead(self, SharedPool pool not None, loop not None):
        """Once, before any call: from here on calls of this loop go to this pool."""
        self.pool, self.loop = pool, loop
        self.has_thread = hasattr(loop, "_thread_id")

    def leave(self):
        """No calls of the loop go here any more; they ask anew where to."""
        self.loop = None
        self.has_thread = False

    def take(self):
        """A CallSlot of the least loaded connection, or None."""
        return lane_take(self)

    cdef bint runs_here(self) except -1:
        """As ``Mailbox.runs_here``."""
        if ASKING_IS_CHEAP or not self.has_thread:
            return running_loop() is self.loop
        thread = self.loop._thread_id
        return thread is not None and <uintptr_t>thread == fp_thread_token()


@cython.freelist(64)
cdef class CallSlot:
    """One slot of a connection, held by one call: whoever calls it first, with whatever arguments, gives
    the slot back.  Collected, it does so too."""
    cdef fp_share of
    cdef AioDispatcher lane
    cdef readonly object call  # these two until the end; grpc's call
    cdef object status         # and its own view of it, asked then whether it went well
    cdef object after          # what is to be called then

    @property
    def carrier(self):
        """The connection, while it is held."""
        return hold_carrier(self)

    def then(self, after):
        """Calls it at the end; now if that has come."""
        if not fp_lease_is_held(&self.of.of):
            after()
        else:
            self.after = after

    def __call__(self, *ignored):
        hold_end(self)

    def __dealloc__(self):
        if fp_share_end(&self.of, FP_LEASE_RELEASED) > 0 and not is_finalizing():
            share_drop(fp_lease_core(&self.of.of), self.of.of.slot, self.of.of.generation)


cdef inline object hold_carrier(CallSlot self):
    cdef PyObject *item = fp_lease_resource(&self.of.of)
    return None if item == NULL else fp_steal(item)


cdef CallSlot hold_of(AioDispatcher lane, fp_core *c, fp_slot *slot):
    cdef CallSlot hold = CallSlot.__new__(CallSlot)
    fp_lease_init(&hold.of.of, c, 0)
    hold.lane = lane
    fp_share_hold(&hold.of, c, fp_id_of(c), slot, 0, FP_LEASE_HELD)
    return hold


cdef CallSlot lane_take(AioDispatcher lane):
    if lane.pool is None:
        raise RuntimeError("this AioDispatcher was not led to a pool")
    cdef fp_core *c = lane.pool.c
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = fp_sharing_hit(c, &due)
    if slot == NULL:
        if due != NULL:  # connections have no check
            share_drop(c, due, fp_slot_generation(due))
        return None
    return hold_of(lane, c, slot)


cdef object hold_end(CallSlot self):
    cdef fp_lease *l = &self.of.of
    cdef int ended = fp_share_end(&self.of, FP_LEASE_RELEASED)
    if ended < 0:
        return
    status, self.status = self.status, None  # these refer to this hold
    self.call = None
    self.lane.active.discard(self)
    try:
        if ended and status is not None and not status.is_ok():
            self.lane.failed(fp_resource(l.slot), status)
    finally:
        if fp_lease_is_live(l):
            share_give(fp_lease_core(l), l.slot, l.generation)
    if self.after is not None:
        after, self.after = self.after, None
        after()
    if self.lane.told:
        self.lane.came_back()


cdef class AioCall:
    """A callable that passes its arguments on to ``calls[number]`` of the least loaded CallConnection of the
    running loop, and returns grpc's own call object, or what ``wrap(call, lane, hold)`` makes of it.

    ``method`` does everything else: ``method.lane()`` is that of the running loop, or raises where the
    handle is closed, and ``method.wait(lane, args, kwargs)`` makes a call that waits for a slot.
    """
    cdef fp_vectorcall vectorcall
    cdef ClosedFlag latch
    cdef AioDispatcher lane  # of the loop that called last
    cdef Py_ssize_t number
    cdef object wrap
    cdef readonly object method
    cdef object __weakref__

    def __init__(self, ClosedFlag latch not None, Py_ssize_t number, method, wrap=None):
        self.latch, self.number, self.method, self.wrap = latch, number, method, wrap
        self.vectorcall = <fp_vectorcall>aio_call

    def __call__(self, *args, **kwargs):
        return fp_call_vector(self, args, kwargs)

    @property
    def __name__(self):
        """For tools that wrap callables."""
        return self.method.name

    @property
    def __signature__(self):
        """What `inspect.signature` says."""
        return self.method.signature

    def __repr__(self):
        return f"<AioCall of {self.method!r}>"


cdef object aio_call(object callee, void **args, size_t n, void *names):
    cdef AioCall self = <AioCall>callee
    cdef AioDispatcher lane = self.lane
    if self.latch.shut or lane is None or not lane.runs_here():
        lane = self.lane = self.method.lane()
    cdef CallSlot hold = None if lane.lined else lane_take(lane)
    if hold is None:
        return self.method.wait(lane, *fp_call_args(args, n, names))
    carrier = hold_carrier(hold)
    try:
        call = fp_list_ref((<CallConnection?>carrier).calls, self.number)
        if call is None:
            call = lane.look_up(carrier, self.number)
        call = fp_call(call, args, n, names)
        follow(lane, call, hold)
    except BaseException:
        hold_end(hold)
        raise
    return call if self.wrap is None else self.wrap(call, lane, hold)


# Has the hold called at the end of grpc's call.  The call's own way to say so costs as much as the rest.
cdef object follow(AioDispatcher lane, call, CallSlot hold):
    hold.call = call
    lane.active.add(hold)
    status = getattr(call, "_cython_call", None)
    if status is None:
        lane.hook(call, hold)
        return
    hold.status = status
    status.add_done_callback(hold)


def begin(AioDispatcher lane not None, CallSlot hold not None, Py_ssize_t number, tuple args, dict kwargs):
    """Makes the call of a method on the connection that is held; the hold is over when it is, or at once
    if this raises."""
    carrier = hold_carrier(hold)
    try:
        call = fp_list_ref((<CallConnection?>carrier).calls, number)
        if call is None:
            call = lane.look_up(carrier, number)
        call = call(*args, **kwargs)
        follow(lane, call, hold)
    except BaseException:
        hold_end(hold)
        raise
    return call
