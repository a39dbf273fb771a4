"""A subinterpreter that imports fastpool first is refused, with the reason; nothing aborts when it
ends, and the main interpreter imports fastpool afterwards."""

import sys

if sys.version_info >= (3, 14):
    from concurrent import interpreters

    def run(code):
        interpreter = interpreters.create()
        interpreter.exec(code)
        interpreter.close()

else:
    if sys.version_info >= (3, 13):
        import _interpreters as legacy
    else:
        import _xxsubinterpreters as legacy

    def run(code):
        interpreter = legacy.create()
        excinfo = legacy.run_string(interpreter, code)
        assert excinfo is None, excinfo
        legacy.destroy(interpreter)


CODE = f"""
import sys
sys.path[:] = {sys.path!r}
for attempt in range(2):
    try:
        import fastpool
    except ImportError as error:
        assert "fastpool" in str(error) or "_core" in str(error), error
        assert "interpreter" in str(error), error
    else:
        raise AssertionError("it was imported")
"""

run(CODE)

from fastpool import FastPool  # noqa: E402

with FastPool(1, factory=object) as pool, pool.lease(timeout=60):
    run(CODE)
