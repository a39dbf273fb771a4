# A view of a queue's items: what ``queue.queue`` is, as far as it is used of the standard library's.

cdef extern from *:
    """
    /* All under the lock.  One more in front; -1: memory is short. */
    static int fp_deque_push_head(fp_deque *d, void *item) {
        if (FP_UNLIKELY(d->count > d->mask) && fp_deque_resize(d, 2 * (d->mask + 1)) < 0) return -1;
        d->head = (d->head - 1) & d->mask;
        d->cells[d->head] = item;
        d->count++;
        return 0;
    }

    /* Takes out what stands at a place; those behind it move up. */
    static void *fp_deque_remove(fp_deque *d, size_t at) {
        void *item = fp_deque_at(d, at);
        for (size_t i = at; i + 1 < d->count; i++)
            d->cells[(d->head + i) & d->mask] = d->cells[(d->head + i + 1) & d->mask];
        d->count--;
        fp_deque_shrink(d);
        return item;
    }
    """
    int fp_deque_push(fp_deque *, void *)
    int fp_deque_push_head(fp_deque *, void *)
    void *fp_deque_remove(fp_deque *, size_t)


cdef list queue_items(fp_core *c):
    """A snapshot, the oldest first."""
    cdef list items = []
    cdef size_t i, n = c.items.count
    cdef void *item
    for i in range(n):  # room first: no Python object may be made under the lock
        items.append(None)
    fp_lock_take(&c.lock)
    n = min(n, c.items.count)
    for i in range(n):
        item = fp_deque_at(&c.items, i)
        fp_list_set(items, i, item)
    fp_lock_drop(&c.lock)
    del items[n:]
    return items


# What stands at an index, taken out or not, as a reference of the caller's own.
cdef object item_at(fp_core *c, Py_ssize_t index, bint take):
    cdef void *item = NULL
    fp_defer_begin()
    fp_lock_take(&c.lock)
    cdef Py_ssize_t n = <Py_ssize_t>c.items.count
    if index < 0:
        index += n
    if 0 <= index < n:
        if take:
            item = fp_deque_remove(&c.items, <size_t>index)
            fp_dispatch(c)  # who waits for room
        else:
            item = fp_deque_at(&c.items, <size_t>index)
            Py_INCREF(<object>item)
    fp_lock_drop(&c.lock)
    fp_defer_end()
    if item == NULL:
        raise IndexError("pop from an empty queue" if take and n == 0 else "queue index out of range")
    return fp_steal(item)


cdef object item_added(fp_core *c, object item, bint in_front):
    cdef int done = -1
    Py_INCREF(item)
    fp_defer_begin()
    fp_lock_take(&c.lock)
    cdef bint shut = (fp_gate(c) & (FP_SHUT | FP_CLOSED)) != 0
    if not shut:
        if in_front:
            done = fp_deque_push_head(&c.items, <void *>item)
        else:
            done = fp_deque_push(&c.items, <void *>item)
        fp_dispatch(c)  # who waits for an item
    fp_lock_drop(&c.lock)
    fp_defer_end()
    if done == 0:
        return None
    Py_DECREF(item)
    if shut:
        raise_queue("ShutDown")
    raise MemoryError


cdef class QueueView:
    """QueueView()\n--\n
    The items of a queue, the oldest first: what ``queue.queue`` is.

    Live, and thread-safe call by call.  As with the standard library's it goes round the queue: what
    is added does not count for ``maxsize``, ``unfinished_tasks`` and ``join``.  But who waits in
    ``get`` or ``put`` is served, where the standard library's would sleep on.
    """
    cdef Core core

    def __len__(self):
        return locked_size(self.core.c, &self.core.c.items.count)

    def __iter__(self):
        return iter(queue_items(self.core.c))

    def __reversed__(self):
        return reversed(queue_items(self.core.c))

    def __contains__(self, item):
        return item in queue_items(self.core.c)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return queue_items(self.core.c)[index]
        return item_at(self.core.c, index, False)

    def __eq__(self, other):
        from collections import deque
        if not isinstance(other, (list, deque, QueueView)):
            return NotImplemented
        return queue_items(self.core.c) == list(other)

    __hash__ = None

    def pop(self, index=-1):
        """Takes out the item put last, or that at an index; IndexError if there is none."""
        return item_at(self.core.c, index, True)

    def popleft(self):
        """Takes out the oldest item; IndexError if there is none."""
        return item_at(self.core.c, 0, True)

    def append(self, item):
        """Adds an item as the one put last; ShutDown."""
        item_added(self.core.c, item, False)

    def appendleft(self, item):
        """Adds an item as the oldest; ShutDown."""
        item_added(self.core.c, item, True)

    def clear(self):
        """Takes out, and drops, all that is there now."""
        cdef size_t n = len(self)
        while n != 0:
            n -= 1
            try:
                item_at(self.core.c, 0, True)
            except IndexError:
                return

    def copy(self):
        """A list of the items: a snapshot."""
        return queue_items(self.core.c)

    def __reduce__(self):
        return refuse_copy(self, None)

    def __repr__(self):
        return f"QueueView({queue_items(self.core.c)!r})"


cdef QueueView view_of(Core core):
    cdef QueueView view = QueueView.__new__(QueueView)
    view.core = core
    return view
