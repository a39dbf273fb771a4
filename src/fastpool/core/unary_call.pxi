# Calls on the connection that carries least: CallConnection, ClosedFlag, UnaryCall.
# What a call is they do not know.

cdef class CallConnection:
    """A resource of a SharedPool on which calls are made: ``calls[n]`` makes one of method ``n``; None,
    or nothing at all: it has to be looked up first."""
    cdef readonly list calls  # grows, and None becomes a callable; both by `Carrier.set_call`
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.calls = []

    def set_call(self, Py_ssize_t number, call):
        """By one thread at a time."""
        while len(self.calls) <= number:
            self.calls.append(None)
        self.calls[number] = call


cdef class ClosedFlag:
    """Open until it is shut: one for all the calls of a handle, looked at by each."""
    cdef public bint shut


cdef ClosedFlag NOT_MADE = ClosedFlag()  # of a call that was not initialised
NOT_MADE.shut = True


cdef class UnaryCall:
    """A callable that passes its arguments on to ``calls[number]`` of the least loaded
    CallConnection, and holds a slot of it meanwhile.

    ``method`` does everything but that: ``method.closed()`` raises when the flag is shut,
    ``method.miss(args, kwargs)`` makes the call when there is no slot or nothing to call,
    ``method.failed(connection, error)`` hears of exceptions; ``with_call``, ``future``, ``name`` and
    ``signature`` are its own.
    """
    cdef fp_vectorcall vectorcall
    cdef SharedPool pool
    cdef ClosedFlag closed_flag
    cdef Py_ssize_t number
    cdef readonly object method
    cdef object owner  # lives as long as this
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.closed_flag = NOT_MADE

    def __init__(self, SharedPool pool not None, ClosedFlag closed_flag not None,
                 Py_ssize_t number, method, owner):
        self.pool, self.closed_flag, self.number, self.method = pool, closed_flag, number, method
        self.owner = owner
        self.vectorcall = <fp_vectorcall>unary_call

    def __call__(self, *args, **kwargs):
        return fp_call_vector(self, args, kwargs)

    def with_call(self, *args, **kwargs):
        """The reply and the call; see grpc.UnaryUnaryMultiCallable."""
        if self.closed_flag.shut:
            return self.method.closed()
        return self.method.with_call(args, kwargs)

    def future(self, *args, **kwargs):
        """The call, which is a future too; see grpc.UnaryUnaryMultiCallable."""
        if self.closed_flag.shut:
            return self.method.closed()
        return self.method.future(args, kwargs)

    @property
    def __name__(self):
        """For tools that wrap callables."""
        return self.method.name

    @property
    def __signature__(self):
        """What `inspect.signature` says."""
        return self.method.signature

    def __repr__(self):
        return f"<UnaryCall of {self.method!r}>"


cdef object unary_call(object callee, void **args, size_t n, void *names):
    cdef UnaryCall self = <UnaryCall>callee
    cdef fp_core *c = self.pool.c
    cdef fp_slot *due = NULL
    cdef fp_slot *slot
    if self.closed_flag.shut:
        return self.method.closed()
    slot = fp_sharing_hit(c, &due)
    if slot == NULL:
        if due == NULL:
            return self.method.miss(*fp_call_args(args, n, names))
        slot = pool_lend(c, fp_id_of(c), fp_span(c), due)
    cdef uint64_t id = fp_id_of(c)
    cdef uint64_t generation = fp_slot_generation(slot)
    connection = fp_resource(slot)
    try:
        call = fp_list_ref((<CallConnection?>connection).calls, self.number)
        if call is not None:
            return fp_call(call, args, n, names)
    except BaseException as error:
        self.method.failed(connection, error)
        raise
    finally:
        if fp_id_of(c) == id:  # else this is a child that was forked off by the call
            share_give(c, slot, generation)
    return self.method.miss(*fp_call_args(args, n, names))


# The arguments of a vectorcall as a tuple and a dict.
cdef tuple fp_call_args(void **args, size_t n, void *names):
    cdef size_t count = n & ~FP_ARGUMENTS_OFFSET
    cdef size_t i
    cdef dict kwargs = {}
    if names != NULL:
        for i, name in enumerate(<tuple>names):
            kwargs[name] = <object>args[count + i]
    return tuple([<object>args[i] for i in range(count)]), kwargs
