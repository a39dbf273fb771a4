"""The core's C headers without Python: threads, perturbed schedules, ThreadSanitizer, mutants.

    python tests/native/run.py [--tsan] [--seconds N] [--seed N]

1. plain: the headers as they are, optimised.
2. perturbed: threads yield at random before atomic steps, and the headers check themselves.
3. with --tsan, the sanitizer: no report is allowed.
4. mutants: copies of the headers with one mistake each. The harness, or the sanitizer where the
   mistake is a weakened ordering, must find every one of them, or it proves nothing.

Ends with status 0 only if 1-3 are clean and every mutant was found. `--seconds` is for each test of
1-3. Builds go to build/native.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCE = ROOT / "src/fastpool"
BUILD = ROOT / "build/native"

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unused-parameter"]
PLAIN = ["-O2"]
PERTURBED = ["-O1", "-g", "-DFASTPOOL_DEBUG"]
TSAN = ["-O1", "-g", "-fsanitize=thread"]
WEAKENED = "-DFP_PUBLISH_ORDER=memory_order_relaxed"

#: The sanitizer maps its shadow memory at fixed addresses, which address randomisation may take.
SETARCH = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []

#: Seconds without a step of any thread before a test says that it is stuck: more than a busy
#: machine could cost, and few where being stuck is what a mistake leads to.
PATIENCE, LITTLE = 10, 2

#: Seconds more than asked for, for a test that cannot even say that.
HANG = 60


@dataclass(frozen=True)
class Mutant:
    """One mistake: `old` becomes `new` in `file`, and one of `tests` must find it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    tsan: bool = False


MUTANTS = [
    Mutant(
        "ring: empty by one stamp",
        "core/storage/ring.h",
        "if (fp_load(&ring->tail, seq_cst) == at) return -1;",
        "return -1;",
        ("ring-exact",),
    ),
    Mutant(
        "ring: cell freed before it is read",
        "core/storage/ring.h",
        """                uint32_t index = cell->index;
                /* release: pairs with the acquire in push */
                fp_store(&cell->stamp, at + ring->mask + 1, release);
""",
        """                fp_store(&cell->stamp, at + ring->mask + 1, release);
                FP_STEP();
                uint32_t index = *(volatile uint32_t *)&cell->index;
""",
        ("ring-exact", "ring"),
    ),
    Mutant(
        "slots: entry popped, INRING kept",
        "core/storage/slot.h",
        "uint64_t next = popped ? word & ~FP_INRING : word;",
        "uint64_t next = word;",
        ("slots", "waiters-fair"),
    ),
    Mutant(
        "slots: entry pushed twice",
        "core/storage/slot.h",
        "return (word & FP_INRING) == 0;",
        "return 1;",
        ("slots", "waiters-fair"),
    ),
    Mutant(
        "slots: late return accepted",
        "core/pool.h",
        "if (FP_UNLIKELY(generation && fp_generation(word) != generation)) return -1;",
        "",
        ("slots",),
    ),
    Mutant(
        "line: no look after joining",
        "core/core.h",
        "    fp_wait_queue_add(queue, w, in_front);\n    fp_dispatch(c);\n",
        "    fp_wait_queue_add(queue, w, in_front);\n    fp_gate_refresh(c);\n",
        ("waiters-duel",),
    ),
    Mutant(
        "line: gate read before publishing",
        "core/pool.h",
        """    if (FP_UNLIKELY(!fp_pool_publish(c, slot, FP_LEASED, word))) return 0;
    uint32_t gate = fp_gate(c);""",
        """    uint32_t gate = fp_gate(c);
    if (FP_UNLIKELY(!fp_pool_publish(c, slot, FP_LEASED, word))) return 0;""",
        ("waiters-duel",),
    ),
    Mutant(
        "line: grant dropped at the timeout",
        "core/core.h",
        "if (state >= FP_GRANTED) return 1;",
        "if (state >= FP_GRANTED) return 0;",
        ("waiters-fair", "waiters-throughput"),
    ),
    Mutant(
        "line: notice not passed on",
        "core/core.h",
        "    fp_dispatch(c); /* passes on a notice that it may have had */\n",
        "",
        ("waiters-throughput", "waiters-signals"),
    ),
    Mutant(
        "line: sleeper not woken",
        "core/core.h",
        "if (atomic_exchange(&w->state, FP_NOTIFIED) == FP_PARKED) fp_unpark(w);",
        "atomic_store(&w->state, FP_NOTIFIED);",
        ("waiters-throughput",),
    ),
    Mutant(
        "close: return not swept",
        "core/pool.h",
        "*notify = (gate & (FP_CLOSED | FP_NOTIFY | FP_ASK_PUT | FP_USED)) != 0;",
        "*notify = 0;",
        ("close",),
    ),
    Mutant(
        "creation: caller on its way forgotten",
        "core/core.h",
        "{ return c->getters.count + c->arriving - c->failures.count; }",
        "{ return c->getters.count; }",
        ("creation",),
    ),
    Mutant(
        "creation: failure left for nobody",
        "core/core.h",
        "fp_waiter *failure = c->failures.count > c->arriving ? c->failures.first : NULL;",
        "fp_waiter *failure = NULL;",
        ("creation",),
    ),
    Mutant(
        "queue: put forgets the getters",
        "core/queue.h",
        "(gate & FP_PUT_SLOW || fp_head_is_late(c, gate));",
        "(gate & FP_PUT_SLOW & ~FP_GETTERS || fp_head_is_late(c, gate));",
        ("queue-fifo", "queue-lifo"),
    ),
    Mutant(
        "queue: putter's item not counted",
        "core/core.h",
        """                fp_wait_queue_remove(&c->putters, w);
                c->unfinished++;
""",
        "                fp_wait_queue_remove(&c->putters, w);\n",
        ("queue-fifo", "queue-lifo"),
    ),
    Mutant(
        "queue: waiters served from the tail",
        "core/core.h",
        "return c->lifo ? fp_deque_pop_tail(&c->items) : fp_deque_pop_head(&c->items);",
        "return fp_deque_pop_tail(&c->items);",
        ("queue-fifo",),
    ),
    Mutant(
        "queue: put without the lock",
        "core/queue.h",
        """    fp_lock_take(&c->lock);
#endif
    uint32_t gate = fp_gate(c);
    int slow = FP_UNLIKELY(gate & (FP_PUT_SLOW | FP_NOTICE)) &&
               (gate & FP_PUT_SLOW || fp_head_is_late(c, gate));
    int done = FP_UNLIKELY(slow) ? FP_NOT_NOW : fp_queue_push(c, item);
#if FP_ATOMIC
    fp_lock_drop(&c->lock);
""",
        """#endif
    int slow = (fp_gate(c) & FP_PUT_SLOW) != 0;
    int done = slow ? FP_NOT_NOW : fp_queue_push(c, item);
#if FP_ATOMIC
""",
        ("queue-lifo", "queue-fifo"),
    ),
    Mutant(
        "shared: counted after the choice",
        "core/storage/lease_counts.h",
        "if (!fp_cas(&slot->load, load, next, acq_rel)) return 0;",
        "fp_store(&slot->load, next, release);",
        ("shared", "shared-exact"),
    ),
    Mutant(
        "shared: gate read before the lease is given back",
        "core/shared_pool.h",
        """    int given = fp_load_give(slot);
    if (FP_UNLIKELY(given <= 0)) {
        if (given < 0) return given;
        (void)fp_slot_move(slot, FP_IDLE, FP_CHECKING);
        if (fp_counts_leases(c)) fp_dispatch_locked(c); /* its permit is free, before it is closed */
        return 0;
    }
    uint32_t gate = fp_gate(c); /* after the lease is given back: see the proof in core.h */
""",
        """    uint32_t gate = fp_gate(c);
    int given = fp_load_give(slot);
    if (FP_UNLIKELY(given <= 0)) {
        if (given < 0) return given;
        (void)fp_slot_move(slot, FP_IDLE, FP_CHECKING);
        if (fp_counts_leases(c)) fp_dispatch_locked(c); /* its permit is free, before it is closed */
        return 0;
    }
""",
        ("shared-duel",),
    ),
    Mutant(
        "shared: closed while it is in use",
        "core/storage/lease_counts.h",
        "return fp_load_of(load) == 0;",
        "return 1;",
        ("shared-drain", "shared-close"),
    ),
    Mutant(
        "shared: the last one out leaves it",
        "core/storage/lease_counts.h",
        "return FP_LIKELY(load & FP_OPEN) ? 1 : fp_load_of(load) == 1 ? 0 : 2;",
        "return FP_LIKELY(load & FP_OPEN) ? 1 : 2;",
        ("shared-drain", "shared-close"),
    ),
    Mutant(
        "shared: looked at while others use it",
        "core/storage/lease_counts.h",
        "if ((load & (FP_OPEN | FP_LOAD)) != FP_OPEN) return 0;",
        "if (!(load & FP_OPEN)) return 0;",
        ("shared-alone",),
    ),
    Mutant(
        "shared: lent after it was to be closed",
        "core/shared_pool.h",
        "int good = !(word & FP_RETIRE) && !(fp_gate(c) & FP_CLOSED);",
        "int good = word != 0 && !(fp_gate(c) & FP_CLOSED);",
        ("shared-retire",),
    ),
    Mutant(
        "shared: what drains is counted by the cap",
        "core/core.h",
        "size_t spared = c->renewing + fp_draining(&c->slots, &c->loads);",
        "size_t spared = c->renewing;",
        ("shared-capacity",),
    ),
    Mutant(
        "semaphore: some is free, so it fits",
        "core/storage/semaphore_units.h",
        "if (taken + n > fp_load(&s->most, relaxed)) return 0;",
        "if (taken >= fp_load(&s->most, relaxed)) return 0;",
        ("semaphore",),
    ),
    Mutant(
        "semaphore: gate read before the units are back",
        "core/semaphore.h",
        """    if (FP_UNLIKELY(!fp_weights_give(&c->weights, n))) return 0;
    /* after it was given back: see the proof in core.h */
    if (FP_UNLIKELY(fp_gate(c) & FP_GETTERS)) fp_dispatch_locked(c);
""",
        """    int wanted = (fp_gate(c) & FP_GETTERS) != 0;
    if (FP_UNLIKELY(!fp_weights_give(&c->weights, n))) return 0;
    if (wanted) fp_dispatch_locked(c);
""",
        ("semaphore-duel",),
    ),
    Mutant(
        "semaphore: no look after a unit was taken",
        "core/semaphore.h",
        "if (FP_LIKELY(!fp_weights_over(&c->weights))) return 1;",
        "return 1;",
        ("semaphore-budget",),
    ),
    Mutant(
        "semaphore: an interrupted waiter keeps its grant",
        "core/waiting/blocking.h",
        """    if (*interrupted && state == FP_GRANTED) /* while the handler ran: on to the next */
        (void)fp_weighted_give(c, n);
""",
        "",
        ("semaphore-signals",),
    ),
    Mutant(
        "ordering: units given back without release",
        "core/storage/semaphore_units.h",
        "} while (!fp_cas(&s->taken, &taken, taken - n, seq_cst));",
        "} while (!fp_cas(&s->taken, &taken, taken - n, relaxed));",
        ("semaphore",),
        tsan=True,
    ),
    Mutant(
        "ordering: lease given back without release",
        "core/storage/lease_counts.h",
        "} while (!fp_cas(&slot->load, &load, load - 1, seq_cst));",
        "} while (!fp_cas(&slot->load, &load, load - 1, relaxed));",
        ("shared-drain", "shared-close"),
        tsan=True,
    ),
    Mutant(
        "ordering: slot taken without acquire",
        "core/storage/slot.h",
        "if (fp_cas(&slot->word, &word, next, acq_rel)) return idle;",
        "if (fp_cas(&slot->word, &word, next, relaxed)) return idle;",
        ("slots", "waiters-fair"),
        tsan=True,
    ),
    Mutant(
        "ordering: cell freed without release",
        "core/storage/ring.h",
        "fp_store(&cell->stamp, at + ring->mask + 1, release);",
        "fp_store(&cell->stamp, at + ring->mask + 1, relaxed);",
        ("ring", "ring-exact"),
        tsan=True,
    ),
    Mutant(
        "cache: the last one taken in two steps",
        "core/object_cache.h",
        "    return fp_exchange(&s->last, NULL, acquire);",
        """    void *item = fp_load(&s->last, acquire);
    FP_STEP();
    fp_store(&s->last, NULL, relaxed);
    return item;""",
        ("cache",),
    ),
    Mutant(
        "cache: the last one replaced in two steps",
        "core/object_cache.h",
        "void *before = fp_exchange(&mine->last, item, acq_rel);",
        "void *before = fp_load(&mine->last, relaxed); fp_store(&mine->last, item, release);",
        ("cache",),
    ),
    Mutant(
        "cache: put without release",
        "core/object_cache.h",
        "fp_store(&mine->last, item, release);\n            return NULL;",
        "fp_store(&mine->last, item, relaxed);\n            return NULL;",
        ("cache", "cache-exact"),
        tsan=True,
    ),
    Mutant(
        "cache: what another thread put last is never found",
        "core/object_cache.h",
        "return with_last == NULL ? NULL : fp_shard_take_last(with_last);",
        "return NULL;",
        ("cache-exact",),
    ),
    Mutant(
        "cache: a slot used again hides what was left in it",
        "core/object_cache.h",
        "        if (FP_LIKELY(last == NULL)) {",
        "        if (FP_LIKELY(last == NULL || !mine->recent.count)) {",
        ("cache-threads", "cache-order"),
    ),
    Mutant(
        "cache: the old generation before the new one",
        "core/object_cache.h",
        "        fp_shard *s = strip + at.offset;\n",
        """        fp_shard *s = strip + at.offset;
        if (with_old && (item = fp_shard_pop(with_old, &with_old->old, 1))) return item;
""",
        ("cache-order",),
    ),
    Mutant(
        "cache: an epoch drops the generation that was in use",
        "core/object_cache.h",
        "        s->old = s->recent;\n        memset(&s->recent, 0, sizeof s->recent);",
        """        while (s->recent.count != 0 && fp_deque_reserve(dropped) == 0)
            (void)fp_deque_push(dropped, fp_deque_pop_head(&s->recent));
        memset(&s->old, 0, sizeof s->old);""",
        ("cache-order",),
    ),
]


def compiler() -> str | None:
    """The C compiler to use, or None."""
    known = (os.environ.get("CC"), "gcc", "clang", "cc")
    return next((cc for cc in known if cc and shutil.which(cc.split()[0])), None)


def build(name: str, flags: list[str], headers: Path = SOURCE) -> Path:
    """Compiles the harness against these headers; the program."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / name
    command = [*(compiler() or "gcc").split(), "-std=gnu11", *WARNINGS, *flags, "-pthread"]
    command += ["-I", str(HERE / "standin"), "-I", str(headers), str(HERE / "harness.c")]
    subprocess.run([*command, "-o", str(program)], check=True)
    return program


def mutate(mutant: Mutant) -> Path:
    """A copy of the headers with the mistake in it; loud when the text is not there, once."""
    folder = BUILD / "mutants" / "".join(c if c.isalnum() else "-" for c in mutant.name)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SOURCE / "core", folder / "core")
    text = (SOURCE / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        raise LookupError(
            f"mutant {mutant.name!r}: its text occurs {text.count(mutant.old)} times in "
            f"{mutant.file}, not once; the mutant has to follow the source:\n{mutant.old}"
        )
    (folder / mutant.file).write_text(text.replace(mutant.old, mutant.new))
    return folder


def names(program: Path) -> list[str]:
    """The tests that the harness knows."""
    run = subprocess.run([program, "--list"], check=True, capture_output=True, text=True)
    return run.stdout.split()


def run(
    program: Path, test: str, seconds: float, seed: int, tsan: bool, patience: int = PATIENCE
) -> tuple[bool, str]:
    """One test: whether it ended well, and its report."""
    command = [*(SETARCH if tsan else []), str(program), test, str(seconds), str(seed)]
    command.append(str(patience))
    environment = {**os.environ, "TSAN_OPTIONS": "exitcode=66 halt_on_error=1 history_size=4"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds + HANG
        )
    except subprocess.TimeoutExpired:
        return False, f"STUCK {test}: no end after {seconds + HANG} s"
    report = (done.stdout + done.stderr).strip()
    return done.returncode == 0, report or f"status {done.returncode}"


def gist(report: str) -> str:
    """The line of a report that says what it is about."""
    lines = report.splitlines()
    words = ("FAIL", "STUCK", "SUMMARY", "fastpool:", "FATAL")
    return next((line for line in lines if line.startswith(words)), lines[-1])


def clean(title: str, program: Path, seconds: float, seed: int, tsan: bool = False) -> bool:
    """Runs every test, which must end well."""
    steps, bad = 0, 0
    tests = names(program)
    for test in tests:
        well, report = run(program, test, seconds, seed, tsan)
        if well:
            steps += int(report.split()[-2])
        else:
            bad += 1
            print(f"\n{report}\n")
    print(f"  {title:<38} {len(tests)} tests, {steps:,} steps: {f'{bad} BAD' if bad else 'clean'}")
    return not bad


def found(title: str, program: Path, tests: tuple[str, ...], seed: int, tsan: bool) -> bool:
    """Runs tests until one of them sees the mistake."""
    for attempt in range(6):
        for test in tests:
            well, report = run(program, test, 1 + attempt, seed + attempt, tsan, LITTLE)
            if tsan and not well and "WARNING: ThreadSanitizer" not in report:
                print(f"\n{report}\n")  # something else went wrong
                return False
            if not well:
                print(f"  {title:<38} found by {test}")
                if "-v" in sys.argv:
                    print(f"      {gist(report)}")
                return True
    print(f"  {title:<38} NOT FOUND by {', '.join(tests)}")
    return False


def checks(seconds: float, seed: int, tsan: bool) -> bool:
    """Everything; prints the table."""
    print(f"C harness, {seconds:g} s a test, seed {seed}", flush=True)
    well = clean("plain", build("plain", PLAIN), seconds, seed)
    well &= clean("perturbed", build("perturbed", PERTURBED), seconds, seed)
    if tsan:
        well &= clean("ThreadSanitizer", build("tsan", TSAN), seconds, seed, True)
    print("mistakes made on purpose", flush=True)
    if tsan:
        weakened = build("weakened", [*TSAN, WEAKENED])
        well &= found("ring: published without release", weakened, ("ring",), seed, True)
    for number, mutant in enumerate(MUTANTS):
        if mutant.tsan and not tsan:
            continue
        program = build(f"mutant-{number}", TSAN if mutant.tsan else PERTURBED, mutate(mutant))
        well &= found(mutant.name, program, mutant.tests, seed, mutant.tsan)
    return well


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tsan", action="store_true", help="also under ThreadSanitizer")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each test; default 1")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("-v", action="store_true", help="say how each mistake showed")
    arguments = parser.parse_args()
    if compiler() is None:
        print("C harness: not run: no C compiler")
        return 1
    try:
        well = checks(arguments.seconds, arguments.seed, arguments.tsan)
    except (LookupError, subprocess.CalledProcessError) as error:
        print(error)
        return 1
    print("native: all as it must be" if well else "native: FAILED")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
