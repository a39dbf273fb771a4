/* The core as CPython's: all that knows of Python, in the order in which it is built.
 */
#ifndef FASTPOOL_CPYTHON_H
#define FASTPOOL_CPYTHON_H

#include "platform/lock.h"

#include "object_cache.h"
#include "waiting/blocking.h"
#include "loop_lookup.h"
#include "registry.h"
#include "fork.h"
#include "gc.h"

#endif
