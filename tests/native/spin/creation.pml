/* Resources opened on demand: callers on their way to the queue, tries, and failures that are each
 * told to one of them. Whoever waits while a slot is free must have a try under way.
 *
 * Each step is atomic here as it is under the lock in the source; hits and hand-off: waiters.pml.
 *
 * Mutants: NO_COMING   the demand leaves out callers who are on their way
 *          NO_RESTART  the end of a try does not start the next
 *          NO_PLACE    a resource that is closed does not make place for a try
 *          KEPT        a caller who is served leaves the failure of its try behind
 */
#ifndef LIMIT
#define LIMIT 1
#endif
#define CALLERS 3
#ifndef ROUNDS
#define ROUNDS 1
#endif
#define FAILURES 2

byte line[CALLERS], waiting;
bit tried[CALLERS], failed[CALLERS], granted[CALLERS];
byte idle, open, coming, failures, tries, jobs;
byte used, ended, broken, told, seen; /* creations that failed; callers told; callers who saw it */

#ifdef NO_COMING
#define demand_of (waiting - idle)
#else
#define demand_of (waiting + coming - failures - idle)
#endif

inline leave(at) {
  k = at; waiting--;
  do :: k < waiting -> line[k] = line[k + 1]; k++ :: else -> break od;
  line[waiting] = 0; k = 0
}

inline dispatch() {
  do
  :: waiting > 0 && idle > 0 -> h = line[0]; leave(0); idle--; granted[h] = 1; h = 0
  :: else -> break
  od
}

inline start() { /* Creator.start */
  atomic {
    do
    :: demand_of > tries && open < LIMIT -> open++; tries++; jobs++
    :: else -> break
    od
  }
}

active proctype Creator() {
  byte k, h, at, ticket;
  bit found, well;
end:
  do
  :: atomic { jobs > 0 -> jobs--; ticket = 0; well = 0; found = 0;
       if :: tries > demand_of -> tries--; open--; goto end :: else fi; /* nobody wants it now */
       at = 0; /* fp_assign */
       do
       :: at < waiting && tried[line[at]] -> at++
       :: else -> break
       od;
       if
       :: at < waiting -> tried[line[at]] = 1; ticket = line[at] + 1
       :: at == waiting && coming == 0 && waiting > 0 -> ticket = line[0] + 1
       :: else
       fi;
       at = 0
     };
     if
     :: well = 1
     :: broken < FAILURES -> broken++
     fi;
     if
     :: well -> atomic { idle++; assert(open <= LIMIT); dispatch() }
     :: else ->
        atomic { open-- };
        atomic { /* fp_fail */
          at = 0; found = 0;
          do
          :: at == waiting -> break
          :: at < waiting && (ticket > 0 -> line[at] == ticket - 1 : !tried[line[at]]) ->
             found = 1; break
          :: else -> at++
          od;
          if
          :: found -> h = line[at]; leave(at); failed[h] = 1; told++; dispatch()
          :: !found && ticket == 0 && coming > failures -> failures++; told++
          :: else
          fi;
          at = 0; found = 0; h = 0
        }
     fi;
     atomic { tries-- };
#ifndef NO_RESTART
     start()
#endif
  od
}

proctype Caller(byte me) {
  byte round, k, h;
  bit got, asked, over;
  for (round : 1 .. ROUNDS) {
    got = 0; asked = 0; over = 0;
    do
    :: got || over -> break
    :: else ->
       atomic { /* fp_pool_wait */
         if :: asked -> coming-- :: else fi;
         if
#ifdef KEPT
         :: asked && failures > 0 && idle == 0 -> failures--; over = 1
#else
         :: asked && failures > 0 -> failures--; over = 1 /* its try was over before it came */
#endif
         :: else
         fi;
         if
         :: idle > 0 && waiting == 0 -> idle--; got = 1;
            if :: over -> over = 0; told-- :: else fi /* served after all */
         :: over -> seen++
         :: !got && !over && !asked && open < LIMIT -> asked = 1; coming++; goto ask
         :: else ->
            asked = 0;
            line[waiting] = me; waiting++; tried[me] = 0; granted[me] = 0; failed[me] = 0; dispatch()
         fi;
         asked = 0
       };
       if
       :: !got && !over ->
          if
          :: atomic { granted[me] -> granted[me] = 0; got = 1 }
          :: atomic { failed[me] -> failed[me] = 0; over = 1; seen++ }
          fi
       :: else
       fi;
       goto next;
ask:   start();
next:  skip
    od;
    if
    :: got -> used++; assert(used <= LIMIT); used--;
       if
       :: atomic { idle++; dispatch() }
       :: atomic { open-- }; /* closed in place of returned */
#ifndef NO_PLACE
          start()
#endif
       fi
    :: else
    fi
  }
  ended++
}

init {
  byte i;
  atomic { for (i : 0 .. CALLERS - 1) { run Caller(i) } }
  ended == CALLERS && tries == 0;
  assert(waiting == 0 && coming == 0 && open == idle && jobs == 0);
  assert(failures == 0 && told == seen)
}
