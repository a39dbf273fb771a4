/* The ring of idle slots: stamped cells, and a test for "empty" that is exact.
 * As many entries as threads, so a pop must never find the ring empty.
 *
 * Mutants: ONE_STAMP   "not ready" is taken for "empty"
 *          FREE_FIRST  a pop frees the cell before it has read the entry
 */
#define CELLS 2
#define THREADS 2
#define ROUNDS 3

byte stamp[CELLS], entry[CELLS]; /* a cell is free for position p when its stamp is p */
byte head, tail;
bit held[THREADS];
byte ended;

inline pop() {
  do
  :: at = head;
     seen = stamp[at % CELLS];
     if
     :: seen == at + 1 ->
        atomic { if :: head == at -> head = at + 1; won = 1 :: else -> won = 0 fi };
        if
        :: won ->
#ifdef FREE_FIRST
           stamp[at % CELLS] = at + CELLS; got = entry[at % CELLS];
#else
           got = entry[at % CELLS]; stamp[at % CELLS] = at + CELLS;
#endif
           break
        :: else
        fi
     :: seen == at ->
#ifdef ONE_STAMP
        assert(false)
#else
        assert(tail != at) /* or it would answer "empty" */
#endif
     :: else
     fi
  od
}

inline push() {
  do
  :: at = tail;
     seen = stamp[at % CELLS];
     if
     :: seen == at ->
        atomic { if :: tail == at -> tail = at + 1; won = 1 :: else -> won = 0 fi };
        if
        :: won -> entry[at % CELLS] = got; stamp[at % CELLS] = at + 1; break
        :: else
        fi
     :: else
     fi
  od
}

proctype Worker() {
  byte round, at, seen, got;
  bit won;
  for (round : 1 .. ROUNDS) {
    pop();
    atomic { assert(!held[got]); held[got] = 1 };
    held[got] = 0;
    push()
  }
  ended++
}

init {
  byte i;
  atomic {
    for (i : 0 .. CELLS - 1) { entry[i] = i; stamp[i] = i + 1 }
    tail = CELLS;
    for (i : 1 .. THREADS) { run Worker() }
  }
  ended == THREADS;
  assert(tail - head == CELLS && entry[head % CELLS] != entry[(head + 1) % CELLS])
}
