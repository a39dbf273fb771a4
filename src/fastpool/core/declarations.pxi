# What the headers give to the Cython files.

cdef extern from *:
    """
    #include "core/platform/interpreter.h"
    #include "core/platform/socket.h"
    #include "core/cpython.h"
    #include "core/fastcall.h"

    static inline PyObject *fp_steal(void *item) { return (PyObject *)item; }

    /* An error that a signal handler raised is set already. */
    static inline PyObject *fp_pending(void) { return NULL; }

    #define fp_size_of(limit) ((limit) >= 9e15 ? SIZE_MAX : (size_t)(limit))
    #define fp_ns_of(seconds) ((seconds) >= 9e9 ? FP_NEVER : (int64_t)((seconds) * 1e9))
    #define fp_seconds_of(ns) ((ns) == FP_NEVER ? Py_HUGE_VAL : (double)(ns) * 1e-9)

    /* Replaces a None of a list that nobody else has seen. */
    static inline void fp_list_set(PyObject *list, size_t i, void *item) {
        Py_INCREF((PyObject *)item);
        PyList_SET_ITEM(list, (Py_ssize_t)i, (PyObject *)item);
    }

    /* How an awaitable without a value ends: a StopIteration would cost more than the step. */
    static PyObject *(*fp_step)(PyObject *);
    static PyObject *fp_next(PyObject *self) {
        PyObject *future = fp_step(self);
        if (future != Py_None) return future;
        Py_DECREF(future);
        return NULL;
    }
    static void fp_install_next(PyTypeObject *type, PyObject *(*step)(PyObject *)) {
        fp_step = step;
        type->tp_iternext = fp_next;
    }

    /* Of unary_call.pxi.  What stands behind a vectorcall goes on to the next with the caller's own array of
     * arguments: nothing is packed and nothing parsed. */
    typedef PyObject *(*fp_vectorcall)(PyObject *, void **, size_t, void *);
    #define FP_ARGUMENTS_OFFSET PY_VECTORCALL_ARGUMENTS_OFFSET
    #define fp_call(call, args, n, names)                                                         \
        PyObject_Vectorcall((call), (PyObject *const *)(args), (n), (PyObject *)(names))
    #define fp_call_vector(callee, args, kwargs) PyVectorcall_Call((callee), (args), (kwargs))

    static void fp_install_vectorcall(PyTypeObject *type, Py_ssize_t offset) {
        type->tp_vectorcall_offset = offset;
        type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    }

    /* An element of a list to which others may append; None where there is none. */
    static inline PyObject *fp_list_ref(PyObject *list, Py_ssize_t i) {
    #ifdef Py_GIL_DISABLED
        PyObject *item = PyList_GetItemRef(list, i);
        if (item != NULL) return item;
        PyErr_Clear();
    #else
        if (i < PyList_GET_SIZE(list)) {
            PyObject *item = PyList_GET_ITEM(list, i);
            Py_INCREF(item);
            return item;
        }
    #endif
        return fp_none();
    }

    static PyObject *(*fp_refuse_new)(PyObject *, PyObject *, PyObject *); /* of _core.pyx */
    static PyObject *fp_closed_new(PyTypeObject *type, PyObject *args, PyObject *options) {
        return fp_refuse_new((PyObject *)type, args, options != NULL ? options : Py_None);
    }
    static void fp_close_new(PyTypeObject *type) {
        type->tp_new = fp_closed_new;
        type->tp_vectorcall = NULL; /* a way round tp_new */
        PyType_Modified(type);
    }

    static int fp_add_methods(PyTypeObject *type, PyObject *methods) {
        if (PyDict_Update(type->tp_dict, methods) < 0) return -1;
        PyType_Modified(type);
        return 0;
    }

    #if !defined(_WIN32)
    #include <pthread.h>
    #define fp_install_fork() pthread_atfork(NULL, NULL, fp_after_fork_in_child)
    #else
    #define fp_install_fork() ((void)0)
    #endif
    """
    ctypedef struct PyTypeObject:
        pass
    ctypedef struct fp_slot:
        uint32_t index
        int64_t sampled
    enum: FP_IN_HOOK, FP_HOOK_OVER
    bint fp_socket_is_silent(int)
    int64_t fp_slot_hook(fp_slot *)
    void fp_slot_set_hook(fp_slot *, int64_t)
    ctypedef struct fp_times:
        uint64_t counts[32]
        uint64_t count
        int64_t sum
        int64_t most
    ctypedef struct fp_wait_queue:
        size_t count
    ctypedef struct fp_deque:
        void **cells
        size_t count
    ctypedef struct fp_lock:
        pass
    ctypedef struct fp_slots:
        pass
    ctypedef struct fp_loads:
        uint32_t slots, most_uses, penalty
    ctypedef struct fp_weights:
        uint64_t size, most, taken, reported
    ctypedef struct fp_core:
        uint64_t id
        int use, lifo, fair, timed, has_check, sharded, listened
        int64_t *clock
        int64_t fresh_for
        int64_t timeout_ns
        size_t limit, allowance
        int short_of_permits
        void *manager
        fp_lock lock
        fp_wait_queue getters, putters, joiners
        size_t open, creating, creating_in_caller, in_flight, delivered, renewing, arriving, unfinished, max_waiting
        bint by_deadline
        fp_loads loads
        fp_weights weights
        uint64_t retired_uses
        uint64_t closed_for[16]
        uint64_t counted[4]
        fp_deque items
        fp_slots slots
        fp_times waits, held, creates
        fp_core *next
    ctypedef struct fp_view:
        uint32_t index, uses
        uint32_t leases
        int state, retire
        int64_t since, dies_at, stale_at
        uintptr_t owner
    ctypedef struct fp_counts:
        size_t by_state[6]
        size_t open, waiting, leases, draining
        uint64_t uses
        uint64_t closed_for[16]
        uint64_t counted[4]
        fp_times waits, held, creates

    const int FP_TIMES
    const int64_t FP_NEVER
    const int FP_QUEUE, FP_POOL, FP_SHARING, FP_WEIGHTED, FP_MOST_SLOTS
    const uint64_t FP_RETIRE
    const int FP_FREE_SLOT, FP_CREATING, FP_IDLE, FP_LEASED, FP_CHECKING, FP_CLOSING
    const int FP_CLOSED, FP_SHUT, FP_SUSPENDED, FP_ASK_GET, FP_ASK_PUT, FP_NOTIFY, FP_USED
    const int FP_PUTTERS
    const int FP_WAITING, FP_NOTIFIED, FP_GRANTED, FP_FAILED, FP_REFUSED, FP_EXPIRED
    const int FP_OVERLOADED, FP_DEADLOCK, FP_MAY_OPEN, FP_MAY_OPEN_AT_HEAD, FP_MEMORY, FP_STOLEN

    ctypedef object (*fp_vectorcall)(object, void **, size_t, void *)
    const size_t FP_ARGUMENTS_OFFSET
    object fp_call(object, void **, size_t, void *)
    object fp_call_vector(object, tuple, dict)
    object fp_list_ref(list, Py_ssize_t)
    void fp_install_vectorcall(PyTypeObject *, Py_ssize_t)

    int fp_add_methods(PyTypeObject *, dict) except -1
    object (*fp_refuse_new)(object, object, object)
    void fp_close_new(PyTypeObject *)
    object fp_steal(void *)
    size_t size_of "fp_size_of" (double)
    int64_t ns_of "fp_ns_of" (double)
    double seconds_of "fp_seconds_of" (int64_t)
    object fp_pending()
    void fp_lock_init(fp_lock *)
    void fp_lock_take(fp_lock *)
    void fp_lock_drop(fp_lock *)
    int64_t fp_later(int64_t, int64_t)
    int64_t fp_now(fp_core *)
    int64_t fp_span(fp_core *)
    int64_t fp_clock_precise()
    uintptr_t fp_thread_token()

    uint32_t fp_gate(fp_core *)
    void fp_gate_set(fp_core *, uint32_t)
    void fp_gate_clear(fp_core *, uint32_t)
    void fp_gate_refresh(fp_core *)
    void fp_dispatch(fp_core *)
    void fp_dispatch_locked(fp_core *)
    void fp_refuse_all(fp_wait_queue *)
    uint64_t fp_assign(fp_core *)
    int64_t fp_waits_since(fp_core *, size_t)
    ctypedef struct fp_mailbox:
        void *owner
    void (*fp_deliver_deferred)(fp_mailbox *)
    void fp_defer_begin()
    void fp_defer_end()
    void fp_mailbox_leave(fp_mailbox *)
    void fp_mailbox_runs_here(fp_mailbox *)
    uintptr_t fp_task_token()
    const bint FP_ATOMIC
    const int ASKING_IS_CHEAP "(FP_ATOMIC || PY_VERSION_HEX >= 0x030C0000)"
    fp_mailbox *fp_mailbox_guess(const void *)
    void fp_mailbox_note(fp_mailbox *, const void *)
    void fp_mailbox_is_gone()
    bint fp_is_watched()
    void fp_set_watched(bint)
    void fp_install_next(PyTypeObject *, object (*)(object))
    void fp_mailbox_init(fp_mailbox *, intptr_t)
    void fp_mailbox_opened(fp_mailbox *)
    void fp_mailbox_forget(fp_mailbox *, fp_waiter *)
    void fp_mailbox_close(fp_mailbox *)
    fp_waiter *fp_mailbox_pop(fp_mailbox *)
    ctypedef struct fp_waiter:
        void *grant
        uint64_t generation
        void *offer
        void *future
        int64_t since
        int64_t until
        fp_mailbox *mailbox
    int fp_waiter_park(fp_waiter *)
    int64_t fp_set_deadline(fp_waiter *, int64_t)
    int fp_waiter_state(fp_waiter *)
    int fp_look(fp_core *, fp_wait_queue *, fp_waiter *)
    int fp_leave(fp_core *, fp_wait_queue *, fp_waiter *)
    void fp_waited(fp_core *, fp_waiter *)
    int fp_pool_join(fp_core *, fp_waiter *, uintptr_t, int, int, fp_slot **, void **, fp_waiter **)
    void fp_drop_failure(fp_waiter *)
    int fp_queue_get_join(fp_core *, fp_waiter *, void **)
    int fp_queue_put_join(fp_core *, fp_waiter *, void *)
    int fp_queue_put_back(fp_core *, void *)
    fp_waiter *fp_spare_failure(fp_core *)
    int fp_fail(fp_core *, uint64_t, void *, fp_waiter *)
    size_t fp_demand(fp_core *)
    fp_waiter *fp_waiter_new()
    void fp_waiter_free(fp_waiter *)
    void fp_check(fp_core *)
    void fp_times_add(fp_times *, int64_t)

    int fp_queue_put_new(fp_core *, void *)
    void *fp_queue_get(fp_core *, int)
    int fp_queue_get_slow(fp_core *, int64_t, void **, int *)
    int fp_queue_put_slow(fp_core *, void *, int64_t, int *)
    int fp_queue_join(fp_core *, int *)
    void *fp_deque_at(fp_deque *, size_t)
    void *fp_take_any(fp_core *)
    void fp_list_set(object, size_t, void *)
    size_t fp_queue_finish(fp_core *)
    size_t fp_queue_shut(fp_core *, int, fp_deque *)
    void *fp_deque_pop_head(fp_deque *)
    void fp_free "FP_FREE" (void *)

    fp_slot *fp_slots_at(fp_slots *, uint32_t)
    bint fp_slots_has(fp_slots *, uint64_t)
    fp_slot *fp_slots_reserve(fp_slots *)
    fp_slot *fp_slots_find(fp_slots *, void *)
    int fp_slots_note(fp_slots *, fp_slot *, void *)
    void fp_slots_forget(fp_slots *, fp_slot *)
    void fp_slots_release(fp_slots *, fp_slot *)
    int fp_end_idle(fp_core *, fp_slot *)
    int fp_has_idle(fp_core *, size_t)
    int fp_slot_move(fp_slot *, unsigned, unsigned)
    int fp_slot_move_own(fp_slot *, uint64_t, unsigned, unsigned)
    fp_slot *fp_pool_hit(fp_core *, fp_slot **)
    int fp_pool_begin(fp_core *, fp_slot *)
    void fp_slot_lend(fp_slot *)
    int fp_begin(fp_core *, fp_slot *)
    void fp_pool_sampled(fp_core *, fp_slot *)
    int64_t fp_used_take(fp_core *)
    int fp_pool_end(fp_core *, fp_slot *)
    int fp_pool_publish(fp_core *, fp_slot *, unsigned, uint64_t)
    int fp_pool_return(fp_core *, fp_slot *, uint64_t, int *)
    fp_slot *fp_pool_find(fp_core *, void *)
    int fp_has_capacity(fp_core *)
    size_t fp_own_most_open(fp_core *)
    size_t fp_callers(fp_core *)
    size_t fp_count_leases(fp_slots *, fp_loads *, size_t *)
    size_t fp_sharing_permit(fp_core *, size_t, int)
    int fp_retire(fp_core *, fp_slot *)
    void fp_unborrow_locked(fp_core *, fp_slot *)
    void fp_sharing_unborrow(fp_core *, fp_slot *)
    fp_slot *fp_sharing_hit(fp_core *, fp_slot **)
    fp_slot *fp_sharing_hit_of(fp_core *, const void *)
    int fp_sharing_return(fp_core *, fp_slot *, int *)
    int fp_sharing_lend(fp_core *, fp_slot *, unsigned, uint32_t)
    int fp_sharing_bar(fp_core *, fp_slot *)
    int fp_sharing_claim(fp_slot *)
    int fp_sharing_seize(fp_slot *)
    void fp_sharing_reserved(fp_core *, fp_slot *)
    uint32_t fp_sharing_peak(fp_slot *)
    void fp_sharing_penalize(fp_core *, fp_slot *, int64_t)
    void fp_sharing_avoid(fp_core *, fp_slot *, int)
    uint32_t fp_slot_leases(fp_core *, fp_slot *)
    int fp_pool_wait(fp_core *, uintptr_t, int64_t, int, int, fp_slot **, uint64_t *, void **, int *)

    void *fp_load_item(fp_slot *)
    unsigned fp_slot_state(fp_slot *)
    uint64_t fp_slot_word(fp_slot *)
    uint64_t fp_slot_generation(fp_slot *)
    uint32_t fp_slot_uses(fp_core *, fp_slot *)
    uintptr_t fp_slot_owner(fp_slot *)
    const uintptr_t FP_BY_GET
    bint fp_slot_lent(fp_core *, fp_slot *, uint64_t)
    void fp_slot_own(fp_slot *, uintptr_t)
    void fp_slot_fill(fp_core *, fp_slot *, int64_t)
    void fp_slot_freshen(fp_core *, fp_slot *)
    void fp_slot_suspect(fp_slot *)
    double fp_slot_age(fp_core *, fp_slot *)
    void fp_slot_retire_own(fp_slot *, uint64_t)
    int fp_slot_is_suspect(fp_slot *)
    size_t fp_mark_retire(fp_core *, size_t, int)
    fp_view *fp_views_new(size_t)
    void fp_views_free(fp_view *)
    size_t fp_views_fill(fp_core *, fp_view *, size_t)
    void fp_view_of(fp_core *, fp_slot *, fp_view *)
    void fp_count(fp_core *, fp_counts *)

    ctypedef struct fp_hold:
        uint64_t n, forks
        int64_t timeout_ns
        int state
    const int FP_HOLD_FRESH, FP_HOLD_HELD, FP_HOLD_RELEASED
    int fp_hold_move(fp_hold *, int, int)
    int fp_hold_state(fp_hold *)
    int fp_weighted_hit(fp_core *, uint64_t)
    int fp_weighted_give(fp_core *, uint64_t)
    int fp_weighted_join(fp_core *, fp_waiter *, uint64_t)
    int fp_weighted_wait(fp_core *, uint64_t, int64_t, int *)
    uint64_t fp_weights_taken(fp_core *)
    void fp_weights_set(fp_weights *, uint64_t, uint64_t)
    uint64_t fp_units_look(fp_core *)
    uint64_t fp_units_wanted(fp_core *)

    fp_core *fp_live
    uint64_t fp_forks
    Py_ssize_t fp_spin_ns
    int fp_gevent
    int (*fp_before_wait)(fp_core *) except -1
    void (*fp_ask_budget)(fp_core *) noexcept
    int64_t fp_patience
    uint64_t fp_id_of(fp_core *)
    fp_core *fp_core_new()
    object fp_manager(fp_core *, uint64_t)
    void fp_core_empty(fp_core *)
    void fp_core_retire(fp_core *)
    void fp_install_traverse(PyTypeObject *, size_t)
    void fp_install_fork()

    ctypedef struct fp_lease:
        fp_slot *slot
        uint64_t generation
        int64_t timeout_ns
    const int FP_LEASE_FRESH, FP_LEASE_HELD, FP_LEASE_BLOCK, FP_LEASE_RELEASED, FP_LEASE_DISCARDED
    void fp_lease_init(fp_lease *, fp_core *, int64_t)
    int fp_lease_state(fp_lease *)
    bint fp_lease_is_fresh(fp_lease *)
    bint fp_lease_is_held(fp_lease *)
    bint fp_lease_is_live(fp_lease *)
    fp_core *fp_lease_core(fp_lease *)
    uint64_t fp_lease_id(fp_lease *)
    bint fp_lease_move(fp_lease *, int, int)
    bint fp_lease_hold(fp_lease *, fp_core *, uint64_t, fp_slot *, uint64_t, int)
    bint fp_lease_end(fp_lease *, int)
    PyObject *fp_lease_resource(fp_lease *)
    void *fp_lease_item(fp_lease *)
    object fp_resource(fp_slot *)
    object (*fp_lend_due)(fp_core *, fp_slot *)
    object (*fp_notify_manager)(fp_core *)
    object (*fp_lease_ended)(fp_core *, fp_slot *, uint64_t, int)
    ctypedef struct fp_share:
        fp_lease of
        uint64_t ticket
    bint fp_share_hold(fp_share *, fp_core *, uint64_t, fp_slot *, uint64_t, int)
    int fp_share_end(fp_share *, int)
    object (*fp_share_ended)(fp_core *, fp_slot *, int)
    fp_core *fp_loop_core(fp_core *, void *)
    void fp_loop_note(fp_core *, void *, fp_core *)
    int fp_install_fast_methods(
        PyTypeObject *, PyTypeObject *, PyTypeObject *, PyTypeObject *, size_t, size_t
    ) except -1
    int fp_install_shared_fast_method(PyTypeObject *, size_t) except -1
