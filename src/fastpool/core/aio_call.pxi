# The same for calls that an event loop makes: AioDispatcher, CallSlot, AioCall.
# Such a call returns at once, and its slot is free when the call says that it is over.

cdef class AioDispatcher:
    """The connections that one event loop uses for some methods.  What is not the hot path is a
    subclass's: ``look_up(connection, number)`` returns what makes a call on a new CallConnection,
    ``failed(connection, status)`` hears of calls that did not go well, ``on_call_ended()`` of each
    that ends while ``notify_on_end`` is set, and ``hook(call, call_slot)`` has ``call_slot`` called
    at the end of a call that is not grpc's plain one.
    While calls are ``queued``, a new one goes behind them."""
    cdef readonly SharedPool pool
    cdef readonly object loop
    cdef bint has_thread     # the loop says in which thread it runs
    cdef public bint queued   # calls wait for a slot
    cdef public bint notify_on_end    # of each call that ends
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
        return dispatcher_take(self)

    def take_of(self, connection):
        """The same of this one connection, as ``acquire_of``."""
        if self.pool is None:
            raise RuntimeError("this AioDispatcher was not led to a pool")
        cdef fp_core *c = self.pool.c
        cdef fp_slot *slot = share_take_of(c, connection)
        return None if slot == NULL else call_slot_of(self, c, slot)

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
    cdef AioDispatcher dispatcher
    cdef readonly object call  # these two until the end; grpc's call
    cdef object status         # and its own view of it, asked then whether it went well
    cdef object after          # what is to be called then

    @property
    def connection(self):
        """The connection, while it is held."""
        return call_slot_connection(self)

    def then(self, after):
        """Calls it at the end; now if that has come."""
        if not fp_lease_is_held(&self.of.of):
            after()
        else:
            self.after = after

    def __call__(self, *ignored):
        call_slot_end(self)

    def __dealloc__(self):
        if fp_share_end(&self.of, FP_LEASE_RELEASED) > 0 and not is_finalizing():
            share_drop(fp_lease_core(&self.of.of), self.of.of.slot, self.of.of.generation)


cdef inline object call_slot_connection(CallSlot self):
    cdef PyObject *item = fp_lease_resource(&self.of.of)
    return None if item == NULL else fp_steal(item)


cdef CallSlot call_slot_of(AioDispatcher dispatcher, fp_core *c, fp_slot *slot):
    cdef CallSlot call_slot = CallSlot.__new__(CallSlot)
    fp_lease_init(&call_slot.of.of, c, 0)
    call_slot.dispatcher = dispatcher
    fp_share_hold(&call_slot.of, c, fp_id_of(c), slot, 0, FP_LEASE_HELD)
    return call_slot


cdef CallSlot dispatcher_take(AioDispatcher dispatcher):
    if dispatcher.pool is None:
        raise RuntimeError("this AioDispatcher was not led to a pool")
    cdef fp_core *c = dispatcher.pool.c
    cdef fp_slot *due = NULL
    cdef fp_slot *slot = fp_sharing_hit(c, &due)
    if slot == NULL:
        if due != NULL:  # connections have no check
            share_drop(c, due, fp_slot_generation(due))
        return None
    return call_slot_of(dispatcher, c, slot)


cdef object call_slot_end(CallSlot self):
    cdef fp_lease *l = &self.of.of
    cdef int ended = fp_share_end(&self.of, FP_LEASE_RELEASED)
    if ended < 0:
        return
    status, self.status = self.status, None  # these refer to this hold
    self.call = None
    self.dispatcher.active.discard(self)
    try:
        if ended and status is not None and not status.is_ok():
            self.dispatcher.failed(fp_resource(l.slot), status)
    finally:
        if fp_lease_is_live(l):
            share_give(fp_lease_core(l), l.slot, l.generation)
    if self.after is not None:
        after, self.after = self.after, None
        after()
    if self.dispatcher.notify_on_end:
        self.dispatcher.on_call_ended()


cdef class AioCall:
    """A callable that passes its arguments on to ``calls[number]`` of the least loaded CallConnection of the
    running loop, and returns grpc's own call object, or what ``wrap(call, dispatcher, hold)`` makes of it.

    ``method`` does everything else: ``method.dispatcher()`` is that of the running loop, or raises where the
    handle is closed, and ``method.wait(dispatcher, args, kwargs)`` makes a call that waits for a slot.
    """
    cdef fp_vectorcall vectorcall
    cdef ClosedFlag closed_flag
    cdef AioDispatcher dispatcher  # of the loop that called last
    cdef Py_ssize_t number
    cdef object wrap
    cdef readonly object method
    cdef object __weakref__

    def __init__(self, ClosedFlag closed_flag not None, Py_ssize_t number, method, wrap=None):
        self.closed_flag, self.number, self.method, self.wrap = closed_flag, number, method, wrap
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
    cdef AioDispatcher dispatcher = self.dispatcher
    if self.closed_flag.shut or dispatcher is None or not dispatcher.runs_here():
        dispatcher = self.dispatcher = self.method.dispatcher()
    cdef CallSlot call_slot = None if dispatcher.queued else dispatcher_take(dispatcher)
    if call_slot is None:
        return self.method.wait(dispatcher, *fp_call_args(args, n, names))
    connection = call_slot_connection(call_slot)
    try:
        call = fp_list_ref((<CallConnection?>connection).calls, self.number)
        if call is None:
            call = dispatcher.look_up(connection, self.number)
        call = fp_call(call, args, n, names)
        follow(dispatcher, call, call_slot)
    except BaseException:
        call_slot_end(call_slot)
        raise
    return call if self.wrap is None else self.wrap(call, dispatcher, call_slot)


# Has the hold called at the end of grpc's call.  The call's own way to say so costs as much as the rest.
cdef object follow(AioDispatcher dispatcher, call, CallSlot call_slot):
    call_slot.call = call
    dispatcher.active.add(call_slot)
    status = getattr(call, "_cython_call", None)
    if status is None:
        dispatcher.hook(call, call_slot)
        return
    call_slot.status = status
    status.add_done_callback(call_slot)


def begin(AioDispatcher dispatcher not None, CallSlot call_slot not None,
          Py_ssize_t number, tuple args, dict kwargs):
    """Makes the call of a method on the connection that is held; the hold is over when it is, or at once
    if this raises."""
    connection = call_slot_connection(call_slot)
    try:
        call = fp_list_ref((<CallConnection?>connection).calls, number)
        if call is None:
            call = dispatcher.look_up(connection, number)
        call = call(*args, **kwargs)
        follow(dispatcher, call, call_slot)
    except BaseException:
        call_slot_end(call_slot)
        raise
    return call
