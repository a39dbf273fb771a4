/* The obvious calls, past the argument parsing: get(), put(x), lease(), and a block that ends without
 * an exception.
 *
 * Cython's parsing of optional arguments takes as long as the rest of a hit.  These functions stand in
 * front of its methods, serve the plain form of the call when it is a hit, and pass everything else
 * on unchanged.  They are put into the method tables when the module is imported.
 */
#ifndef FASTPOOL_FASTCALL_H
#define FASTPOOL_FASTCALL_H

#include "cpython.h"
#include "lease.h"

/* Names the running task: each has a context of its own, unless it was made with somebody else's. */
static inline uintptr_t fp_task_token(void) { return (uintptr_t)PyThreadState_Get()->context; }

/* Both types begin with the fields named here; fp_install_fast_methods makes sure. */
#define FP_CORE_OF(self) (*(fp_core **)((char *)(self) + sizeof(PyObject)))
#define FP_LEASE_OF(self) ((fp_lease *)((char *)(self) + sizeof(PyObject)))
#define FP_SHARE_OF(self) ((fp_share *)((char *)(self) + sizeof(PyObject)))

typedef PyObject *(*fp_call)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
static fp_call fp_exit_parsed;
static PyObject *(*fp_lend_due)(fp_core *, fp_slot *); /* of pool.pxi */
static PyObject *(*fp_notify_manager)(fp_core *);

static inline PyObject *fp_resource(fp_slot *slot) {
    PyObject *item = (PyObject *)fp_load_item(slot);
    Py_INCREF(item);
    return item;
}

/* Puts a new reference to the item; 0: slow path, and the reference is given up again. */
static inline int fp_queue_put_new(fp_core *c, void *item) {
    Py_INCREF((PyObject *)item);
    if (FP_LIKELY(fp_queue_put(c, item) == FP_DONE)) return 1;
    Py_DECREF((PyObject *)item);
    return 0;
}

static inline PyObject *fp_none(void) {
    Py_INCREF(Py_None);
    return Py_None;
}

/* The manager as a new reference, while the block has this id, or any (0); None: it was dropped. */
static PyObject *fp_manager(fp_core *c, uint64_t id) {
    fp_lock_take(&c->lock);
    PyObject *manager = id == 0 || fp_id_of(c) == id ? (PyObject *)c->manager : NULL;
    if (manager == NULL) manager = Py_None;
    Py_INCREF(manager);
    fp_lock_drop(&c->lock);
    return manager;
}

/* One hit each; NULL or 0: slow path.  Everything cold is in a call at the very end of a fast method,
 * so the hit itself needs no stack. */
static FP_APART PyObject *fp_hit_get_pool(fp_core *c) {
    fp_slot *due = NULL, *slot = fp_pool_hit(c, &due);
    if (FP_LIKELY(slot != NULL)) {
        fp_slot_own(slot, fp_thread_token() | FP_BY_GET);
        return fp_resource(slot);
    }
    return FP_UNLIKELY(due != NULL) ? fp_lend_due(c, due) : NULL;
}

static inline PyObject *fp_hit_get(fp_core *c) {
    if (c->use == FP_QUEUE) return (PyObject *)fp_queue_get(c, c->lifo);
    return fp_hit_get_pool(c);
}

static FP_APART int fp_hit_put_pool(fp_core *c, PyObject *item) {
    int notify = 0;
    fp_slot *slot = fp_pool_find(c, item);
    if (FP_UNLIKELY(slot == NULL || fp_pool_return(c, slot, 0, &notify) <= 0)) return 0;
    if (FP_UNLIKELY(notify)) fp_notify_manager(c);
    return 1;
}

static inline int fp_hit_put(fp_core *c, PyObject *item) {
    if (c->use == FP_QUEUE) return fp_queue_put_new(c, item);
    return fp_hit_put_pool(c, item);
}

#define FP_FAST_METHODS(type, hit_get, hit_put)                                                         \
    static fp_call fp_##type##_get_parsed, fp_##type##_put_parsed;                               \
    static PyCFunction fp_##type##_get_nowait_slow, fp_##type##_put_nowait_slow;                 \
    static PyObject *fp_##type##_get_fast(PyObject *self, PyObject *const *args, Py_ssize_t n,   \
                                          PyObject *names) {                                     \
        if (FP_LIKELY(n == 0 && names == NULL)) {                                                \
            PyObject *item = hit_get(FP_CORE_OF(self));                                          \
            if (FP_LIKELY(item != NULL)) return item;                                            \
            if (FP_UNLIKELY(PyErr_Occurred() != NULL)) return NULL;                              \
        }                                                                                        \
        return fp_##type##_get_parsed(self, args, n, names);                                     \
    }                                                                                            \
    static PyObject *fp_##type##_put_fast(PyObject *self, PyObject *const *args, Py_ssize_t n,   \
                                          PyObject *names) {                                     \
        if (FP_LIKELY(n == 1 && names == NULL) && hit_put(FP_CORE_OF(self), args[0]))            \
            return fp_none();                                                                    \
        return fp_##type##_put_parsed(self, args, n, names);                                     \
    }                                                                                            \
    static PyObject *fp_##type##_get_nowait_fast(PyObject *self, PyObject *none) {               \
        PyObject *item = hit_get(FP_CORE_OF(self));                                              \
        if (FP_LIKELY(item != NULL)) return item;                                                \
        if (FP_UNLIKELY(PyErr_Occurred() != NULL)) return NULL;                                  \
        return fp_##type##_get_nowait_slow(self, none);                                          \
    }                                                                                            \
    static PyObject *fp_##type##_put_nowait_fast(PyObject *self, PyObject *item) {               \
        if (FP_LIKELY(hit_put(FP_CORE_OF(self), item))) return fp_none();                        \
        return fp_##type##_put_nowait_slow(self, item);                                          \
    }
#define FP_TAKE_OLDEST(c) ((PyObject *)fp_queue_get((c), 0))
#define FP_TAKE_NEWEST(c) ((PyObject *)fp_queue_get((c), 1))
FP_FAST_METHODS(queue, FP_TAKE_OLDEST, fp_queue_put_new)
FP_FAST_METHODS(lifo, FP_TAKE_NEWEST, fp_queue_put_new)
FP_FAST_METHODS(pool, fp_hit_get, fp_hit_put)

/* What is lent, as a new reference; NULL: see fp_lease_item. */
static inline PyObject *fp_lease_resource(fp_lease *l) {
    fp_core *c = fp_lease_core(l);
    fp_lock_take(&c->lock);
    PyObject *item = (PyObject *)fp_lease_item(l);
    Py_XINCREF(item);
    fp_lock_drop(&c->lock);
    return item;
}

/* What is left to do at the end of a lease, these of lease.pxi and shared_pool.pxi: 0, the slot is to be
 * looked at by the manager; or 1, it has to know. */
static PyObject *(*fp_lease_ended)(fp_core *, fp_slot *, uint64_t, int);
static PyObject *(*fp_share_ended)(fp_core *, fp_slot *, int);
static fp_call fp_share_exit_parsed;

/* The end of a block that no exception left. */
static PyObject *fp_exit_fast(PyObject *self, PyObject *const *args, Py_ssize_t n,
                              PyObject *names) {
    fp_lease *l = FP_LEASE_OF(self);
    if (FP_UNLIKELY(n != 3 || names != NULL || args[1] != Py_None))
        return fp_exit_parsed(self, args, n, names);
    if (FP_UNLIKELY(!fp_lease_end(l, FP_LEASE_RELEASED) || !fp_lease_is_live(l))) return fp_none();
    fp_core *c = fp_lease_core(l);
    int notify = 0, given = fp_pool_return(c, l->slot, l->generation, &notify);
    if (FP_LIKELY(given == 1 && !notify)) return fp_none();
    return fp_lease_ended(c, l->slot, l->generation, given);
}

static PyObject *fp_share_exit_fast(PyObject *self, PyObject *const *args, Py_ssize_t n,
                                    PyObject *names) {
    fp_share *l = FP_SHARE_OF(self);
    if (FP_UNLIKELY(n != 3 || names != NULL || args[1] != Py_None ||
                    (fp_lease_is_held(&l->of) && l->ticket != 0)))
        return fp_share_exit_parsed(self, args, n, names);
    if (FP_UNLIKELY(fp_share_end(l, FP_LEASE_RELEASED) <= 0)) return fp_none();
    fp_core *c = fp_lease_core(&l->of);
    int notify = 0, given = fp_sharing_return(c, l->of.slot, &notify);
    if (FP_LIKELY(given == 1 && !notify)) return fp_none();
    return fp_share_ended(c, l->of.slot, given);
}

/* Puts `fast` in front of a method; -1 when there is no such method of the expected kind. */
static int fp_install_fast_method(PyTypeObject *type, const char *name, int flags, void *fast,
                           void **behind) {
    for (PyMethodDef *m = type->tp_methods; m != NULL && m->ml_name != NULL; m++)
        if (strcmp(m->ml_name, name) == 0 && m->ml_flags == flags) {
            *behind = (void *)m->ml_meth;
            m->ml_meth = (PyCFunction)fast;
            return 0;
        }
    PyErr_Format(PyExc_SystemError, "fastpool: no method %s to put a fast one in front of", name);
    return -1;
}

#define FP_PARSED (METH_FASTCALL | METH_KEYWORDS)
#define FP_FAST_METHOD(type, kind, name, flags, behind)                                                 \
    fp_install_fast_method(type, #name, flags, (void *)fp_##kind##_##name##_fast,                       \
                    (void **)&fp_##kind##_##name##_##behind)
#define FP_FOUR_FAST_METHODS(type, kind)                                                                \
    (FP_FAST_METHOD(type, kind, get, FP_PARSED, parsed) < 0 ||                                          \
     FP_FAST_METHOD(type, kind, put, FP_PARSED, parsed) < 0 ||                                          \
     FP_FAST_METHOD(type, kind, get_nowait, METH_NOARGS, slow) < 0 ||                                   \
     FP_FAST_METHOD(type, kind, put_nowait, METH_O, slow) < 0)

static int fp_install_fast_methods(PyTypeObject *queue, PyTypeObject *lifo, PyTypeObject *pool,
                            PyTypeObject *lease, size_t core_at, size_t lease_at) {
    if (core_at != sizeof(PyObject) || lease_at != sizeof(PyObject)) {
        PyErr_SetString(PyExc_SystemError, "fastpool: the types are not laid out as expected");
        return -1;
    }
    if (FP_FOUR_FAST_METHODS(queue, queue) || FP_FOUR_FAST_METHODS(lifo, lifo) ||
        FP_FOUR_FAST_METHODS(pool, pool) ||
        fp_install_fast_method(lease, "__exit__", FP_PARSED, (void *)fp_exit_fast,
                        (void **)&fp_exit_parsed) < 0)
        return -1;
    return 0;
}

static int fp_install_shared_fast_method(PyTypeObject *lease, size_t at) {
    if (at != sizeof(PyObject)) {
        PyErr_SetString(PyExc_SystemError, "fastpool: a lease is not laid out as expected");
        return -1;
    }
    return fp_install_fast_method(lease, "__exit__", FP_PARSED, (void *)fp_share_exit_fast,
                           (void **)&fp_share_exit_parsed);
}

#endif
