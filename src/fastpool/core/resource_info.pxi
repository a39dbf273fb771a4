# What is known of one resource: ``info`` of a lease, or of what was taken by ``get``.

# Of the resource in a slot.  The caller holds no lock.
cdef object info_of(fp_core *c, fp_slot *slot):
    cdef fp_view view
    cdef double age
    fp_lock_take(&c.lock)
    fp_view_of(c, slot, &view)
    age = fp_slot_age(c, slot)
    cdef int64_t now = fp_now(c)
    fp_lock_drop(&c.lock)
    from fastpool.stats import ResourceInfo
    return ResourceInfo(age, view.uses, max(0, now - view.since) * 1e-9, bool(view.retire))


# Whether it is held here and now.
cdef bint lease_is_held(fp_lease *l) noexcept:
    cdef fp_core *c = fp_lease_core(l)
    fp_lock_take(&c.lock)
    cdef bint held = fp_lease_item(l) != NULL
    fp_lock_drop(&c.lock)
    return held


cdef object resource_info(fp_core *c, object resource):
    """Of a resource that this core holds; None: it does not."""
    fp_lock_take(&c.lock)
    cdef fp_slot *slot = fp_slots_find(&c.slots, <void *>resource)
    fp_lock_drop(&c.lock)
    return None if slot == NULL else info_of(c, slot)
