/* Permits that members share through an engine: no two members whose leases go on have more than the
 * limit together, whatever is lost, late or doubled, whoever pauses, and if the engine loses data.
 *
 * A request that was sent arrives at any time, never, or again and again.  A reply and a notification
 * are taken in at any time or never.  Of time there is what the protocol relies on: a lease ends at
 * the engine when it has ended at the member (FORGET), and learning goes on until each lease from
 * before the loss has ended (LEARNT).  What was sent too long ago makes no lease: `past`.  An error is
 * told as a story by `spin -t`.
 *
 * Mutants: EARLY_END     a lease may end at the engine first
 *          NO_NUMBER     the engine takes a late duplicate for a new request
 *          GIVE_LATER    permits are given up when the reply comes
 *          NO_LEARN      the engine goes on as if nothing were lost
 *          SHORT_LEARN   it learns for a shorter time than leases go on
 *          LATE_LEASE    a lease begins when the reply comes
 *          STALE_CLAIM   while the engine learns, a lease that ended before the reply is confirmed
 *          BELIEVE       who was forgotten comes back with what it had
 *          OLD_NOTE      a notification counts that builds on an earlier request
 */
#ifndef LIMIT
#define LIMIT 1
#endif
#ifndef REQUESTS
#define REQUESTS 2
#endif
#ifndef OTHERS
#define OTHERS 1
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#define N 2
#define NUMBERS 8 /* a power of two above REQUESTS, for one array of both members */
#define AT(m, n) (m * NUMBERS + n)

/* members */
byte permits[N], number[N], past[N];
bit valid[N], before[N]; /* its lease goes on; and is from before a loss */
byte keep[N * NUMBERS];  /* of each request */
bit going[N * NUMBERS];  /* whether the lease went on when it was sent */

/* the latest reply to the latest request, and the latest notification */
bit waits[N], replied[N], confirmed[N], learnt[N], early[N];
byte reply[N], note[N], noted[N]; /* noted: the request that it builds on, 0: none */

/* the engine */
bit row[N], sure[N], learning;
byte have[N], seen[N], losses;

#ifdef LATE_LEASE
#define IN_TIME(m) true
#else
#define IN_TIME(m) (number[m] > past[m])
#endif
#ifdef STALE_CLAIM
#define STILL_VALID(m) true
#else
#define STILL_VALID(m) (!learnt[m] || valid[m])
#endif
#define TOTAL (have[0] + have[1])
#define USABLE(m) (valid[m] -> permits[m] : 0)
#define LEAST(a, b) ((a) < (b) -> (a) : (b))

inline select_keep(m) {
  n = permits[m];
  do
  :: n > 0 -> n--
  :: break
  od;
  keep[AT(m, number[m])] = n;
#ifndef GIVE_LATER
  permits[m] = n;
#endif
  n = 0
}

inline ask(m) { /* Claim.request */
  number[m]++;
  select_keep(m);
  going[AT(m, number[m])] = valid[m];
  replied[m] = 0; waits[m] = 1;
  printf("%d asks %d keeps %d going %d\n", m, number[m], keep[AT(m, number[m])], valid[m])
}

inline arrive(m) { /* the script, with a request n of this member */
  if
#ifndef NO_NUMBER
  :: row[m] && n <= seen[m] -> skip
#endif
  :: else ->
     free = LIMIT - TOTAL + have[m];
     if
     :: learning -> free = keep[AT(m, n)]
#ifdef BELIEVE
     :: !learning && !row[m] -> free = keep[AT(m, n)]
#endif
     :: !learning && row[m] && going[AT(m, n)] && sure[m] -> free = LEAST(have[m], keep[AT(m, n)])
     :: else ->
        free = (TOTAL - have[m] > LIMIT -> 0 : free);
        free = LEAST(free, keep[AT(m, n)]);
        free = (row[m] -> LEAST(free, have[m]) : free)
     fi;
     have[m] = free;
     free = 0;
     row[m] = 1;
     seen[m] = n;
     sure[m] = !learning || going[AT(m, n)];
     if
     :: TOTAL < LIMIT && !learning -> have[m]++
     :: true
     fi;
     if
     :: n == number[m] && waits[m] && !replied[m] ->
        replied[m] = 1; reply[m] = have[m]; confirmed[m] = sure[m]; learnt[m] = learning; early[m] = 0;
        noted[m] = 0
     :: true /* lost */
     fi;
     printf("%d/%d arrives: has %d sure %d learning %d\n", m, n, have[m], sure[m], learning)
  fi
}

inline answered(m) { /* Claim.answered */
  replied[m] = 0; waits[m] = 0;
  permits[m] = reply[m];
  if
  :: confirmed[m] && IN_TIME(m) && STILL_VALID(m) ->
     valid[m] = 1; before[m] = early[m]
  :: else
  fi;
  printf("%d answered: %d lease %d\n", m, permits[m], valid[m]);
  reply[m] = 0; confirmed[m] = 0; learnt[m] = 0; early[m] = 0
}

inline lose() {
  printf("loss\n");
  losses++;
  for (m : 0 .. N - 1) {
    before[m] = valid[m];
    early[m] = replied[m];
    if
    :: row[m] = 0; have[m] = 0; seen[m] = 0; sure[m] = 0
    :: row[m]
    fi
  }
  m = 0;
#ifndef NO_LEARN
  learning = 1
#endif
}

inline step(x) {
  if
  :: number[x] < (x == 0 -> REQUESTS : OTHERS) -> ask(x)
  :: number[x] > 0 ->
     n = 1;
     do
     :: n < number[x] -> n++
     :: break
     od;
     arrive(x); n = 0
  :: replied[x] -> answered(x)
#ifdef OLD_NOTE
  :: noted[x] > 0 ->
#else
  :: noted[x] > 0 && noted[x] == number[x] ->
#endif
     printf("%d notified: %d\n", x, note[x]); permits[x] = note[x]; noted[x] = 0; note[x] = 0
  :: valid[x] -> printf("%d lapses\n", x); valid[x] = 0; before[x] = 0
#ifdef EARLY_END
  :: row[x] && !learning ->
#else
  :: row[x] && !learning && !valid[x] -> /* FORGET */
#endif
     printf("%d forgotten\n", x);
     past[x] = (seen[x] > past[x] -> seen[x] : past[x]);
     row[x] = 0; have[x] = 0; seen[x] = 0; sure[x] = 0
  :: row[x] && !learning && TOTAL < LIMIT ->
     printf("%d granted\n", x); have[x]++; noted[x] = seen[x]; note[x] = have[x]
  fi
}

active proctype Everybody() {
  byte m, n, free;
end:
  do
  :: atomic { step(0); assert(USABLE(0) + USABLE(1) <= LIMIT) }
  :: atomic { step(1); assert(USABLE(0) + USABLE(1) <= LIMIT) }
  :: atomic { losses < LOSSES -> lose() }
#ifdef SHORT_LEARN
  :: atomic { learning ->
#else
  :: atomic { learning && !before[0] && !before[1] -> /* LEARNT */
#endif
       for (m : 0 .. N - 1) { /* replies from before the loss are too late by now */
         if :: early[m] && number[m] > past[m] -> past[m] = number[m] :: else fi
       }
       printf("learnt\n"); m = 0; learning = 0
     }
  od
}
