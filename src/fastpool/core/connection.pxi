# A connection of a driver of PEP 249 while it is lent: the driver's own, but that its end gives it back.
#
# For ``contrib/dbapi``, whose ``Pool`` says what the driver is like.  In C, since every call of the user
# goes through it, and a checkout with its return is otherwise six calls of Python.  What its fields
# refer to never changes, so that two threads which use one, wrongly, get errors at worst; whether it
# was given back, and by whom, is for its lease to say.

cdef extern from "Python.h":
    PyObject *PyErr_GetHandledException() noexcept

cdef enum:
    MANY_CURSORS = 32  # of one connection, from which on those that are gone are looked for


cdef class Kept:
    """In the place of a weak reference to what has none."""
    cdef object what

    def __cinit__(self, what):
        self.what = what

    def __call__(self):
        return self.what


# The exception that is being handled, by its address; 0: none.  Not more than compared.
cdef uintptr_t handled_now() noexcept:
    cdef PyObject *error = PyErr_GetHandledException()
    Py_XDECREF(error)
    return <uintptr_t>error


@cython.no_gc_clear
cdef class Connection:
    """Connection(pool, lease)\n--\n
    A connection of the pool, until ``close()`` or the end of a ``with`` block gives it back.

    What is not named here is the driver's: its methods, and its attributes to read and to assign.
    Cursors are the driver's own; those that are left are closed when the connection goes back.
    Used afterwards, it raises the driver's InterfaceError.  For one thread at a time.  Dropped
    without ``close()``, it is closed for good, with a ResourceWarning.  Made by ``Pool.connect``.
    """
    cdef object __weakref__
    cdef object pool        # of contrib.dbapi, which lives as long
    cdef Lease lease
    cdef object connection  # the driver's
    cdef list cursors       # weak references to them, or functions that return them
    cdef uintptr_t before   # the exception that was being handled already: not this loan's

    def __cinit__(self, pool, Lease lease not None):
        self.pool, self.lease, self.cursors = pool, lease, []
        self.connection = lease.resource
        self.before = handled_now()

    # Whose attributes it shows: after its return those of what refuses.
    cdef inline object shown(self):
        if fp_lease_is_held(&self.lease.of):
            return self.connection
        return self.pool._returned

    @property
    def dbapi_connection(self):
        """The driver's connection, for what insists on its class.  Not to be kept."""
        if not fp_lease_is_held(&self.lease.of):
            self.pool._returned.refuse("dbapi_connection")
        return self.connection

    def cursor(self, *args, **kwargs):
        """A cursor of the driver's; it is closed at the latest when the connection goes back."""
        return self.noted(self.shown().cursor(*args, **kwargs))

    def commit(self):
        """As the driver's."""
        self.shown().commit()

    def rollback(self):
        """As the driver's."""
        self.shown().rollback()

    def close(self):
        """Gives it back: cursors are closed, what was not committed is rolled back.  If that fails
        the connection is closed instead, and nothing is raised; so it is in a ``finally``, if the
        exception on its way says that it is broken.  Done again, it does nothing."""
        cdef uintptr_t error = handled_now()
        if self.took():
            if error == 0 or error == self.before:
                self.end(self.pool._driver.at_return)
            else:
                self.end_failed(sys.exc_info()[1])

    def __enter__(self):
        if not fp_lease_is_held(&self.lease.of):
            self.pool._returned.refuse("with")
        lease_enter(self.lease, fp_thread_token(), True)  # a block's: PoolDeadlock knows of it
        return self

    def __exit__(self, kind, error, trace):
        """Commits, or with an exception rolls back, and gives it back.  A connection that the
        exception says is broken is closed."""
        if not self.took():
            return
        if error is not None:
            self.end_failed(error)
            return
        driver = self.pool._driver
        if driver.at_return is not None:
            try:
                self.close_cursors()
                self.connection.commit()
            except BaseException as failure:
                self.end_failed(failure)
                raise
        self.end(driver.after_commit)

    def __getattr__(self, name):
        found = getattr(self.shown(), name)
        if not name.startswith("execute"):  # of sqlite3, psycopg and pyodbc, which return a cursor
            return found

        def execute(*args, **kwargs):
            return self.noted(getattr(self.shown(), name)(*args, **kwargs))

        return execute

    def __setattr__(self, name, value):
        setattr(self.shown(), name, value)

    def __delattr__(self, name):
        delattr(self.shown(), name)

    def __dir__(self):
        return sorted({*object.__dir__(self), *dir(self.shown())})

    def __repr__(self):
        what = repr(self.connection) if fp_lease_is_held(&self.lease.of) else "given back"
        return f"<Connection of {self.pool.fastpool.name!r}: {what}>"

    # -- its cursors --

    cdef object noted(self, cursor):
        """A cursor that was made, and is to be closed at the end."""
        cdef list cursors = self.cursors
        if len(cursors) >= MANY_CURSORS:
            alive = [each for each in cursors if each() is not None]
            if len(alive) < MANY_CURSORS // 2:
                cursors[:] = alive
        try:
            cursors.append(PyWeakref_NewRef(cursor, None))
        except TypeError:  # of pyodbc and pymssql
            cursors.append(Kept.__new__(Kept, cursor))
        return cursor

    cdef object close_cursors(self):
        cdef list cursors = self.cursors
        while cursors:
            cursor = cursors.pop()()
            if cursor is not None:
                try:
                    cursor.close()
                except Exception:  # it is closed already, or the connection is gone
                    pass

    # -- its end --

    # Whether it is the caller's to give back.  Not in a forked child, which has nothing to do with it.
    cdef bint took(self) except -1:
        cdef PyObject *item = fp_lease_resource(&self.lease.of)
        cdef bint lent = item != NULL
        Py_XDECREF(item)
        return fp_lease_end(&self.lease.of, FP_LEASE_RELEASED) and lent

    # What the pool does with it before it goes back: None, nothing; True, a rollback; or a function.
    cdef object reset(self, how):
        if self.cursors:
            self.close_cursors()
        if how is True:
            self.connection.rollback()
        elif how is not None:
            how(self.connection)

    cdef object end(self, reset):
        cdef bint sound
        try:
            self.reset(reset)
            sound = not self.pool._driver.knows_health or self.connection.is_healthy()
        except Exception:
            sound = False
        except BaseException:
            lease_give(&self.lease.of, None, True)
            raise
        lease_give(&self.lease.of, None, not sound)

    cdef object end_failed(self, error):
        """With an exception: on a connection that is broken a rollback might hang."""
        driver = self.pool._driver
        if driver.is_broken(error, self.connection):
            lease_give(&self.lease.of, None, True)
            return
        cdef bint sound = True
        try:
            self.reset(driver.at_return)
        except Exception:
            sound = False
        except BaseException:
            lease_give(&self.lease.of, None, True)
            raise
        lease_give(&self.lease.of, error if sound else None, not sound)  # which asks `discard_on`
