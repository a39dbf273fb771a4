/* The line of a pool: gate bits, hand-off and notices, timeouts. SPIN finds who waits for ever
 * beside an idle resource (an invalid end state) and any resource that is lost or lent twice.
 *
 * -DFAIR: the head is impatient from the start. Without: it may become so at any time, or never.
 *
 * Mutants: NO_LOOK      nobody looks for something idle after joining the queue
 *          EARLY_GATE   a return reads the gate before it publishes
 *          LATE_BITS    dispatch sets the bits of the gate after its last look
 *          DROP         a grant that comes together with the timeout is dropped
 *          KEEP_NOTICE  a waiter that leaves does not pass its notice on
 *          SILENT       a notified waiter that found nothing does not ask for the next notice
 */
#ifndef ITEMS
#define ITEMS 1
#endif
#define THREADS 3
#ifndef ROUNDS
#define ROUNDS 2
#endif

mtype = { WAITING, NOTIFIED, GRANTED };
mtype state[THREADS];
bit impatient[THREADS];
byte line[THREADS], waiting; /* who waits, in order; under the lock */
bit locked;
bit getters, handoff; /* the gate */
byte idle = ITEMS, used, ended;

inline lock() { atomic { !locked -> locked = 1 } }
inline unlock() { locked = 0 }

inline leave(who) {
  atomic {
    k = 0;
    do :: line[k] != who -> k++ :: else -> break od;
    waiting--;
    do :: k < waiting -> line[k] = line[k + 1]; k++ :: else -> break od;
    line[waiting] = 0; k = 0
  }
}

inline refresh() { /* fp_gate_refresh */
  atomic {
    if
    :: waiting == 0 -> getters = 0; handoff = 0
    :: else ->
#ifdef FAIR
       impatient[line[0]] = 1;
#else
       if :: impatient[line[0]] = 1 :: skip fi;
#endif
       handoff = impatient[line[0]];
       getters = handoff || state[line[0]] != NOTIFIED
    fi
  }
}

inline dispatch() { /* fp_dispatch, under the lock */
  do
  :: 1 ->
#ifndef LATE_BITS
     refresh();
#endif
     if
     :: waiting == 0 || (!handoff && !getters) || idle == 0 -> break
     :: else ->
        if
        :: handoff ->
           atomic {
             if
             :: idle > 0 -> idle--; h = line[0]; leave(h); state[h] = GRANTED; h = 0
             :: else -> break
             fi
           }
        :: else -> state[line[0]] = NOTIFIED
        fi
     fi
  od;
#ifdef LATE_BITS
  refresh()
#endif
}

inline take_idle() { atomic { if :: idle > 0 -> idle--; got = 1 :: else fi } }

inline wait(me) {
  do
  :: state[me] == GRANTED -> got = 1; break
  :: state[me] == NOTIFIED -> /* fp_notified */
     lock();
     if
     :: state[me] == NOTIFIED ->
        take_idle();
        if :: got -> leave(me); state[me] = GRANTED :: else -> state[me] = WAITING fi;
#ifdef SILENT
        if :: got -> dispatch() :: else fi;
#else
        dispatch();
#endif
     :: else
     fi;
     unlock();
     if :: got -> break :: else fi
  :: timed && state[me] != GRANTED -> /* fp_leave */
     lock();
     if
     :: state[me] == GRANTED ->
#ifndef DROP
        got = 1
#else
        skip
#endif
     :: else -> leave(me);
#ifndef KEEP_NOTICE
        dispatch()
#endif
     fi;
     unlock();
     break
  od
}

inline give_back() { /* fp_pool_return */
  used--;
#ifdef EARLY_GATE
  told = getters; idle++;
#else
  idle++; told = getters;
#endif
  if :: told -> lock(); dispatch(); unlock() :: else fi;
  told = 0
}

proctype Worker(byte me) {
  byte round, k, h;
  bit got, timed, told;
  for (round : 1 .. ROUNDS) {
    got = 0;
    if :: timed = 0 :: timed = 1 fi;
    if :: !handoff -> take_idle() :: else fi;
    if
    :: !got ->
       lock();
       if :: !handoff -> take_idle() :: else fi;
       if
       :: got -> unlock()
       :: else ->
          atomic { line[waiting] = me; waiting++; state[me] = WAITING; impatient[me] = 0 };
#ifdef NO_LOOK
          refresh();
#else
          dispatch();
#endif
          unlock();
          wait(me)
       fi
    :: else
    fi;
    if :: got -> used++; assert(used <= ITEMS); give_back() :: else fi
  }
  ended++
}

init {
  byte i;
  atomic { for (i : 0 .. THREADS - 1) { run Worker(i) } }
  ended == THREADS;
  assert(idle == ITEMS && waiting == 0 && !getters && !handoff)
}
