/* Slot words, thread hints and the pruned ring of entries. The ring is a list here (ring.pml is its
 * own proof); each compare-and-swap on a word is one step, and so is each push and pop.
 *
 * Mutants: TWICE   a return pushes an entry although one is there
 *          KEEP    a pop leaves the mark for its entry standing
 *          LATE    a return does not look at the generation
 */
#define SLOTS 2
#ifndef THREADS
#define THREADS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

bit idle[SLOTS], marked[SLOTS];
byte generation[SLOTS];
byte owner[SLOTS]; /* 1 + thread, 0: nobody */
byte ring[SLOTS], entries;
byte ended;

inline take(s, popped) { /* fp_slot_take */
  atomic {
#ifndef KEEP
    if :: popped -> marked[s] = 0 :: else fi;
#endif
    if :: idle[s] -> idle[s] = 0; generation[s]++; lease = generation[s]; mine = s + 1 :: else fi
  }
}

inline look_in_ring() { /* fp_idle_take */
  do
  :: mine == 0 ->
     atomic {
       if
       :: entries == 0 -> break
       :: else ->
          s = ring[0]; entries--; k = 0;
          do :: k < entries -> ring[k] = ring[k + 1]; k++ :: else -> break od;
          k = 0
       fi
     };
     take(s, 1)
  :: else -> break
  od
}

/* fp_pool_return: looks at the word, then publishes what it saw; `mine` is the slot, by `lease` */
inline give_back() {
  was = generation[mine - 1];
  can = !idle[mine - 1];
#ifndef LATE
  can = can && was == lease;
#endif
  do
  :: can ->
     atomic {
       if
       :: idle[mine - 1] || generation[mine - 1] != was -> can = 0; push = 0
       :: else ->
          assert(owner[mine - 1] == 0); /* nobody else is in the middle of its lease */
          idle[mine - 1] = 1; push = !marked[mine - 1]; marked[mine - 1] = 1; break
       fi
     }
  :: else -> break
  od;
#ifdef TWICE
  push = can;
#endif
  if
  :: push -> atomic { assert(entries < SLOTS); ring[entries] = mine - 1; entries++; push = 0 }
  :: else
  fi
}

proctype Worker(byte me) {
  byte round, s, k, mine, lease, was;
  bit can, push;
  for (round : 1 .. ROUNDS) {
    mine = 0;
    if /* the hint may be any slot, or none */
    :: true -> take(0, 0)
    :: true -> take(SLOTS - 1, 0)
    :: true
    fi;
    look_in_ring();
    if
    :: mine ->
       atomic { assert(owner[mine - 1] == 0); owner[mine - 1] = me + 1 };
       assert(owner[mine - 1] == me + 1);
       owner[mine - 1] = 0;
       give_back();
       if :: give_back() :: skip fi /* once more, too late: nothing may come of it */
    :: else
    fi;
    s = 0; mine = 0; lease = 0; was = 0; can = 0
  }
  ended++
}

init {
  byte i;
  atomic {
    for (i : 0 .. SLOTS - 1) { idle[i] = 1; marked[i] = 1; ring[i] = i }
    entries = SLOTS;
    for (i : 0 .. THREADS - 1) { run Worker(i) }
  }
  ended == THREADS;
  for (i : 0 .. SLOTS - 1) { assert(idle[i] && marked[i]) }
  assert(entries == SLOTS)
}
