"""SystemExit raised while a pool is being collected ends nothing, as in any other finaliser.

Cython's own report of an error in ``__del__`` would leave the process at once, with the status of
the error, past all ``finally`` blocks.
"""

import gc
import sys
import warnings

import fastpool


def show(*_: object) -> None:
    raise SystemExit(3)


told = []
warnings.simplefilter("always")
warnings.showwarning = show
sys.unraisablehook = told.append

finished = False
try:
    pool = fastpool.FastPool(1, factory=object)
    pool.put(pool.get())
    del pool  # unclosed: it warns
    gc.collect()
    finished = True
finally:
    sys.exit(0 if finished and [type(each.exc_value) for each in told] == [SystemExit] else 1)
