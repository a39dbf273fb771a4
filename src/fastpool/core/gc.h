/* What the garbage collector has to know: the items of a queue, the resources and the manager
 * of a pool.  Cython cannot express this, so the traversal of the owning type is wrapped. */
#ifndef FASTPOOL_GC_H
#define FASTPOOL_GC_H

#include "queue.h"
#include "registry.h"

static traverseproc fp_base_traverse;
static inquiry fp_base_clear;
static size_t fp_owner_offset; /* of the pointer to the block within the owning object */

static int fp_core_traverse(PyObject *self, visitproc visit, void *arg) {
    fp_core *c = *(fp_core **)((char *)self + fp_owner_offset);
    if (c != NULL) {
        if (c->use == FP_QUEUE)
            for (size_t i = 0; i < c->items.count; i++) Py_VISIT((PyObject *)fp_deque_at(&c->items, i));
        for (fp_waiter *w = c->putters.first; w != NULL; w = w->next) Py_VISIT((PyObject *)w->offer);
        FP_EACH_SLOT(c, slot)
        if (fp_slot_state(slot) != FP_FREE_SLOT) Py_VISIT((PyObject *)fp_load_item(slot));
        Py_VISIT((PyObject *)c->manager);
    }
    return fp_base_traverse ? fp_base_traverse(self, visit, arg) : 0;
}

/* Releases what a queue holds, one item at a time: each release may run any code. */
static void fp_queue_drain(fp_core *c) {
    while (c->use == FP_QUEUE) {
        PyObject *item = NULL;
        fp_lock_take(&c->lock);
        if (c->items.count != 0) item = (PyObject *)fp_deque_pop_head(&c->items);
        fp_lock_drop(&c->lock);
        if (item == NULL) break;
        Py_DECREF(item);
    }
}

static int fp_core_clear(PyObject *self) {
    fp_core *c = *(fp_core **)((char *)self + fp_owner_offset);
    if (c != NULL) fp_queue_drain(c);
    return fp_base_clear ? fp_base_clear(self) : 0;
}

/* The owner is being deallocated: nobody else looks at the block, but one with an old lease, under the
 * lock. */
static void fp_core_empty(fp_core *c) {
    fp_gate_set(c, FP_CLOSED);
    fp_queue_drain(c);
    FP_EACH_SLOT(c, slot) {
        fp_lock_take(&c->lock);
        unsigned state = fp_slot_state(slot);
        PyObject *item = state == FP_FREE_SLOT ? NULL : (PyObject *)fp_load_item(slot);
        if (state != FP_FREE_SLOT) {
            fp_slot_move(slot, state, FP_CLOSING);
            fp_slots_forget(&c->slots, slot);
            fp_slots_release(&c->slots, slot);
        }
        fp_lock_drop(&c->lock);
        Py_XDECREF(item);
    }
    fp_lock_take(&c->lock);
    PyObject *manager = (PyObject *)c->manager;
    c->open = c->creating = c->creating_in_caller = c->in_flight = c->delivered = 0;
    c->manager = NULL;
    fp_lock_drop(&c->lock);
    Py_XDECREF(manager);
}

static void fp_install_traverse(PyTypeObject *type, size_t offset) {
    fp_owner_offset = offset;
    fp_base_traverse = type->tp_traverse;
    fp_base_clear = type->tp_clear;
    type->tp_traverse = fp_core_traverse;
    type->tp_clear = fp_core_clear;
}

#endif
