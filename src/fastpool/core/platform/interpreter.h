/* Which interpreter of the process may import the module: the main one.
 *
 * The pools' threads are daemons, which look after pools until the process ends.  Python aborts when a
 * subinterpreter ends while such a thread runs.  So the import is refused there, and before Cython
 * notes which interpreter was the first: the main one may import the module afterwards.
 */
#ifndef FASTPOOL_INTERPRETER_H
#define FASTPOOL_INTERPRETER_H

#include <Python.h>

/* As PyInterpreterState_GetID: Cython asks for it when the module is made, and for nothing else. */
static int64_t fp_interpreter_id(PyInterpreterState *interpreter) {
    if (interpreter == PyInterpreterState_Main()) return PyInterpreterState_GetID(interpreter);
    PyErr_SetString(PyExc_ImportError,
                    "fastpool works in the main interpreter alone, and this is a subinterpreter: "
                    "use it in the main one; see docs/howto/subinterpreters.md");
    return -1;
}
#define PyInterpreterState_GetID fp_interpreter_id

#endif
