# What submitters change in the state of a WorkerPool: one call in C under its lock, so that no signal
# handler runs half-way.  See limits/_threads.py.

cdef object start_new_thread = _thread.start_new_thread


def add_task(group, task, thread, begin, args):
    """To be done by the next thread that is free: 1.  2: ``begin(*args)`` starts the thread for it,
    which counts from here on.  0: one more thread is wanted, and none was given.  -1: nothing can be
    submitted any more."""
    cdef set threads = group.threads
    cdef bint lacking
    tasks = group.tasks
    if group.over:
        return -1
    lacking = len(threads) < min(group.workers, tasks.unfinished_tasks + 1)
    if lacking:
        if thread is None:
            return 0
        threads.add(thread)
        try:
            start_new_thread(begin, args)
        except Exception:
            threads.discard(thread)
            if not threads:
                raise
            lacking = False
    tasks.put(task)
    return 2 if lacking else 1


def withdraw_task(group, task):
    """Nobody is there to do it, and its submitter hears of that."""
    tasks = group.tasks
    if group.over:
        return
    for _ in range(tasks.qsize()):
        try:
            other = tasks.get_nowait()
        except Exception:  # a thread has come after all
            return
        if other is not task:
            tasks.put(other)
        tasks.task_done()
