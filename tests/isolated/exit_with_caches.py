"""A process ends quietly with full caches, which daemon threads and finalisers go on using."""

import gc
import threading

from fastpool import ObjectCache

buffers = ObjectCache(lambda: bytearray(1 << 16))
things: ObjectCache = ObjectCache(list, reset=list.clear)


class Late:
    """Its finaliser runs when the interpreter ends."""

    def __init__(self):
        self.me = self

    def __del__(self):
        things.put(things.get())
        buffers.put(buffers.get())
        ObjectCache(list).put([])


def for_ever():
    while True:
        one, other = buffers.get(), things.get()
        buffers.put(one)
        things.put(other)


for _ in range(100):
    buffers.put(bytearray(10))
things.put([Late()])
keep = [Late(), things, buffers]
keep.append(keep)
gc.collect()
for _ in range(3):
    threading.Thread(target=for_ever, daemon=True).start()
