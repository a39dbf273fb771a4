"""The `fastpool` command, also `python -m fastpool`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .. import __version__

T = TypeVar("T", int, float)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 all is well, 1 a check failed, 130 interrupted."""
    options = _parser().parse_args(argv)
    try:
        code: int = options.run(options)
        return code
    except KeyboardInterrupt:
        # Late releases of CPython 3.13 take an interrupt within exec(text), which is how a
        # dataclass is made, for one that nobody handles, and end by the signal. Another exec
        # makes them forget it.
        exec("")
        if options.interrupted:
            print(f"\n{options.interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # our reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastpool", description="A pool for what services share: connections, clients, work."
    )
    parser.add_argument("--version", action="version", version=f"fastpool {__version__}")
    parser.set_defaults(run=_help, show=parser.print_help, interrupted="")
    commands = parser.add_subparsers(metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="real servers on loopback under load, pooled and not, in one table",
        description="Starts a gRPC, an XML-RPC and a TCP echo server on loopback, calls each from"
        " many threads through fastpool and as people do without it, kills one under load, and"
        " checks that nothing was lost. The exit code is 0 only if every check holds.",
    )
    demo.add_argument(
        "--seconds",
        type=_number(float, 2, 3600),
        default=20.0,
        help="how long it all takes, about (default: 20)",
    )
    demo.add_argument(
        "--threads",
        type=_number(int, 1, 1000),
        default=32,
        help="threads that make calls (default: 32)",
    )
    demo.add_argument("--plain", action="store_true", help="no moving table, no colour")
    demo.set_defaults(run=_demo, interrupted="interrupted; the servers have been stopped")
    bench = commands.add_parser(
        "bench",
        help="what a turn costs here, beside queue and the pools that are installed",
        description="Times fastpool beside the standard library's queues and, where they are"
        " installed, psycopg_pool, SQLAlchemy, redis and urllib3, all over dummies, in turns. It"
        " informs and judges nothing: the exit code is 0 when it has run to its end.",
    )
    bench.add_argument(
        "--seconds",
        type=_number(float, 1, 3600),
        default=10.0,
        help="how long it all takes, about (default: 10)",
    )
    instead = bench.add_mutually_exclusive_group()
    instead.add_argument(
        "--plot",
        type=_svg,
        metavar="FILE.svg",
        help="also draw what was found: one picture, with nothing outside it",
    )
    instead.add_argument(
        "--claims",
        action="store_true",
        help="instead: what the documentation claims, each in one line with its verdict",
    )
    bench.set_defaults(run=_bench, interrupted="interrupted")
    _add_top(commands)
    _add_budget(commands)
    return parser


def _add_top(commands: Any) -> None:
    top = commands.add_parser(
        "top",
        help="the pools of a running process: who holds what, who waits, live",
        description="Shows the pools of a process that has a debug socket (FASTPOOL_DEBUG_SOCKET=1,"
        " or fastpool.debug.serve()), or that can be given one: Python 3.14 and newer, where the"
        " system allows. Live on a terminal; one table where the output is no terminal.",
    )
    top.add_argument(
        "target",
        nargs="?",
        metavar="PID | ADDRESS",
        help='a process number, "unix:PATH" or "tcp:HOST:PORT"; default: the only one there is',
    )
    top.add_argument("--once", action="store_true", help="print one table, in 80 columns, and end")
    top.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object a line for each pool, again and again, or --once",
    )
    top.add_argument(
        "--web",
        type=_number(int, 0, 65535),
        metavar="PORT",
        help="serve a page on loopback, at the address that is printed (0: any port)",
    )
    top.add_argument(
        "--token",
        help="what the socket wants to hear first; rather in FASTPOOL_DEBUG_TOKEN, for other users"
        " see command lines",
    )
    top.add_argument(
        "--interval",
        type=_number(float, 0.1, 60),
        default=1.0,
        metavar="SECONDS",
        help="between two looks (default: 1)",
    )
    top.set_defaults(run=_top, interrupted="", refuse=top.error)


def _help(options: argparse.Namespace) -> int:
    """Without a command: what there is."""
    options.show()
    return 0


def _add_budget(commands: Any) -> None:
    budget = commands.add_parser(
        "budget",
        help="permits that processes share: who has what, and a new limit",
        description="Shows, or changes, what processes share by fastpool.fleet.LocalBudget(PATH),"
        " or by RedisBudget(URL, NAME): then PATH is redis://HOST:PORT/DB#NAME.",
    )
    acts = budget.add_subparsers(required=True, metavar="ACT")
    for act, text in (
        ("show", "who has how many permits, and wants how many"),
        ("set", "change the limit, for all processes, within a second"),
        ("watch", "the same as show, again and again"),
    ):
        parser = acts.add_parser(act, help=text, description=text)
        parser.add_argument("path", metavar="PATH", help="the file of the budget, or URL#NAME")
        if act == "set":
            parser.add_argument("limit", metavar="LIMIT", type=_number(int, 1, 2**24))
        if act == "watch":
            parser.add_argument(
                "--interval",
                type=_number(float, 0.1, 3600),
                default=1.0,
                metavar="SECONDS",
                help="between two looks (default: 1)",
            )
        parser.set_defaults(run=_budget, interrupted="", act=act)


def _budget(options: argparse.Namespace) -> int:
    from . import budget

    path = options.path if "://" in options.path else os.path.abspath(options.path)
    try:
        if options.act == "set":
            return budget.set_limit(path, options.limit)
        if options.act == "watch":
            return budget.watch(path, options.interval)
        return budget.show(path)
    except budget.BudgetFailed as error:
        print(f"fastpool budget: {error}", file=sys.stderr)
        return 1


def _demo(options: argparse.Namespace) -> int:
    from .demo import run
    from .demo.servers import ServerFailed
    from .tables import make_view

    try:
        return 0 if run(options.seconds, options.threads, make_view(options.plain)) else 1
    except ServerFailed as error:
        print(f"fastpool demo: {error}", file=sys.stderr)
        return 1


def _bench(options: argparse.Namespace) -> int:
    from .bench import Progress, claims, run
    from .bench.plot import svg

    progress = Progress()
    try:
        if options.claims:
            claims.run(options.seconds, progress.say, progress.update)
            return 0
        picture = run(options.seconds, progress.say, progress.update)
    finally:
        progress.clear()
    if options.plot is not None:
        with open(options.plot, "w", encoding="utf-8") as file:
            file.write(svg(*picture))
    return 0


def _top(options: argparse.Namespace) -> int:
    from .top import NoTarget, run

    if options.web is not None and (options.once or options.json):
        options.refuse("--web is without --once and --json")
    try:
        return run(
            options.target,
            once=options.once,
            as_json=options.json,
            web=options.web,
            token=options.token,
            interval=options.interval,
        )
    except NoTarget as error:
        print(f"fastpool top: {error}", file=sys.stderr)
        return error.code


def _svg(path: str) -> str:
    """The path of a picture that can be written; asked before anything is measured."""
    if not path.endswith(".svg"):
        raise argparse.ArgumentTypeError(f"must end with .svg, the only kind drawn, not {path!r}")
    folder = os.path.dirname(path) or "."
    if not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"there is no folder {folder!r} that can be written to")
    return path


def _number(kind: Callable[[str], T], least: T, most: T) -> Callable[[str], T]:
    def number(text: str) -> T:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be {least} to {most}, not {text}")
        return value

    return number
