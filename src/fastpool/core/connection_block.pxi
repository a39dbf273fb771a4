# Blocks with a connection of psycopg: what a pool of `contrib/psycopg` lends them by.
#
# In C, since what a pool adds to a checkout is otherwise most of its cost: psycopg's own end of a block
# takes as long as all the rest.  What is rare is the pool's, in Python: to refuse, to put in order.

cdef class ConnectionBlocks:
    """ConnectionBlocks(fastpool, reset, plain)\n--\n
    What the blocks of one pool have in common: where connections come from, whether each is ``reset``
    when it comes back, and for how long they were used, in ``usage_ms``.  ``plain``: the class of
    connections whose own blocks end by psycopg's ``commit()``, or None.
    """
    cdef FastPool fastpool
    cdef bint reset
    cdef object plain
    cdef int64_t used_ns  # under the lock of this object where there is no GIL

    def __cinit__(self, FastPool fastpool not None, bint reset, plain):
        self.fastpool, self.reset, self.plain = fastpool, reset, plain

    @cython.always_allow_keywords(False)
    def block(self, pool, timeout):
        """A ConnectionBlock, for a connection within so many seconds."""
        cdef ConnectionBlock block = ConnectionBlock.__new__(ConnectionBlock)
        cdef fp_core *c = self.fastpool.c
        if c.use == FP_QUEUE:
            manager_of(c, "lease")
        block.blocks, block.pool = self, pool
        if type(timeout) is float and 0 < <double>timeout < 1e6:  # the same without its calls
            fp_lease_init(&block.of, c, <int64_t>(<double>timeout * 1e9))
        else:
            fp_lease_init(&block.of, c, ns_of_timeout(c, timeout) if timeout > 0 else 0)
        return block

    def used(self, double seconds):
        """Counts a use."""
        self.count(<int64_t>(seconds * 1e9))

    @property
    def usage_ms(self):
        """Milliseconds for which connections were used."""
        return self.used_ns * 1e-6

    cdef inline void count(self, int64_t ns) noexcept:
        with cython.critical_section(self):
            self.used_ns += ns


cdef enum:  # of psycopg's TransactionStatus
    IDLE = 0
    CLOSED_OR_BROKEN = 4  # UNKNOWN

cdef str BLOCK_ENTERED = "this block was entered before; call connection() for each"


@cython.no_gc_clear
cdef class ConnectionBlock(Lease):
    """ConnectionBlock()\n--\n
    ``with pool.connection() as connection``: lent at its begin; its end commits, or rolls back after
    an exception, and gives the connection back.

    Entered once, by one thread.  Dropped before its end, as with a generator that nobody goes on
    with, it closes the connection, and the pool opens another.
    """
    cdef ConnectionBlocks blocks
    cdef object pool    # of contrib.psycopg
    cdef int64_t began  # on the precise clock

    def __enter__(self):
        cdef double timeout = self.of.timeout_ns * 1e-9
        if not fp_lease_is_fresh(&self.of):
            from fastpool.errors import PoolError
            raise PoolError(lease_pool(&self.of), BLOCK_ENTERED)
        try:
            connection = lease_enter(self, fp_thread_token(), True)
        except Exception as error:
            refusal = self.pool._refusal_of(error, timeout)
            if refusal is None:
                raise
            raise refusal from error
        self.began = fp_clock_precise()
        try:
            connection._pool = self.pool  # so that psycopg leaves it open
            return connection if type(connection) is self.blocks.plain else connection.__enter__()
        except BaseException:
            self.give_back(connection, False)
            raise

    def __exit__(self, kind, error, trace):
        cdef PyObject *item = fp_lease_resource(&self.of)
        if item == NULL:  # given back inside the block, and perhaps somebody else's by now
            return None
        connection = fp_steal(item)
        cdef int status = CLOSED_OR_BROKEN
        cdef bint idle = False
        try:
            if error is None and type(connection) is self.blocks.plain:
                status = connection.pgconn.transaction_status
            if status != CLOSED_OR_BROKEN:
                connection.commit()  # in whatever state it is: that is for psycopg to say
                idle = status == IDLE
            else:
                return connection.__exit__(kind, error, trace)
        finally:
            self.give_back(connection, idle)

    cdef object give_back(self, connection, bint idle):
        if self.blocks.reset or not idle and connection.pgconn.transaction_status != IDLE:
            self.pool._return(connection, False)
        else:
            connection._pool = None
            if fp_lease_end(&self.of, FP_LEASE_RELEASED):
                lease_give(&self.of, None, False)
        self.blocks.count(fp_clock_precise() - self.began)
