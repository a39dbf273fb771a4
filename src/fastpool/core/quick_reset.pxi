# A plain reset hook at the end of a lease, without a call of Python beside the hook's own.
#
# What ``Manager.give_back`` does where a pool has nothing else to be asked: no tracking of leases, no limit
# of uses.  Whatever does not go its plain way is left to the manager.

cdef extern from *:
    """
    /* How many resets of this pool have been under way for so long, in ns.  Under the lock. */
    static size_t fp_resets_overdue(fp_core *c, int64_t most) {
        size_t n = 0;
        int64_t now = fp_clock_precise();
        FP_EACH_SLOT(c, slot) {
            int64_t since = fp_slot_state(slot) == FP_CHECKING ? -fp_slot_hook(slot) : 0;
            n += since > 0 && now - since >= most;
        }
        return n;
    }
    """
    size_t fp_resets_overdue(fp_core *, int64_t)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object) except -1
    int PyContext_Exit(object) except -1

cdef dict modules = sys.modules
cdef object asyncio_loop = None  # asyncio._get_running_loop, once there is an asyncio


cdef bint on_a_loop() except -1:
    """Whether an event loop runs in this thread: then no hook may, for it would stop the loop."""
    global asyncio_loop
    if asyncio_loop is None:
        if "asyncio" in modules:
            asyncio_loop = getattr(modules["asyncio"], "_get_running_loop", None)
        if asyncio_loop is None:
            return False
    return asyncio_loop() is not None


cdef class QuickReset:
    """A plain reset hook, and how many may be idle; made anew when that changes."""
    cdef object hook
    cdef double most_idle

    def __cinit__(self, hook, double most_idle):
        self.hook, self.most_idle = hook, most_idle


# Resets what is in a CHECKING slot, which is the caller's, and makes it idle.  True: that is done, or is
# for nobody to do; False: nothing has happened.
cdef bint reset_quickly(fp_core *c, uint64_t id, object manager, fp_slot *slot) except -1:
    quick = manager.quick_reset
    if type(quick) is not QuickReset or fp_gate(c) & FP_CLOSED or on_a_loop():
        return False
    failure = None
    context = PyContext_CopyCurrent()  # what the hook changes stays with it
    resource = fp_resource(slot)
    PyContext_Enter(context)
    fp_slot_set_hook(slot, -fp_clock_precise())
    try:
        (<QuickReset>quick).hook(resource)
    except Exception as error:
        failure = error
    finally:
        if fp_id_of(c) == id:
            fp_slot_set_hook(slot, 0)
        PyContext_Exit(context)
    if fp_id_of(c) != id:  # the hook has forked, and this is the child
        return True
    why = "reset" if failure is not None else core_keep(c, slot, (<QuickReset>quick).most_idle, False)
    if why is not None:
        manager.not_kept(number_of(slot), why, failure)
    elif locked_size(c, &c.getters.count) != 0:
        manager.on_idle()
    return True
