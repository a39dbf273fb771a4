"""Which process is meant, and a connection to it; or what to do, where there is none."""

from __future__ import annotations

import os

from ... import debug
from .attach import NotAttached, attach
from .figures import clean, tail

__all__ = ["NoTarget", "find"]

HOW = (
    "To open a socket: FASTPOOL_DEBUG_SOCKET=1 in the environment of the program when\n"
    "it starts, or fastpool.debug.serve() in its code."
)
QUICK = 3.0  # seconds for a process that is only listed


class NoTarget(Exception):
    """There is no process to look at; the text says why, and what to do.  ``code``: of the exit."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def find(target: str | None, token: str | None) -> debug.Connection:
    """Connect to the process that is meant.  ``target``: a process number, an address, or None for
    the only one that there is.  NoTarget: why it cannot be."""
    if target is None:
        return _the_only_one(token)
    if target.isdecimal():
        return _of_process(int(target), token)
    return _at(target, token)


def _at(address: str, token: str | None) -> debug.Connection:
    try:
        return debug.connect(address, token=token)
    except ValueError as error:
        raise NoTarget(f"{clean(error)}; or a process number", code=2) from None
    except PermissionError as error:
        raise NoTarget(_refused(address, error)) from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoTarget(f"Nobody listens at {clean(address)}.\n{HOW}") from None
    except OSError as error:
        raise NoTarget(f"{clean(address)}: {error}") from None


def _refused(address: str, error: PermissionError) -> str:
    if error.errno is None:  # by the server
        return f"{clean(error)}.\nGive the token by FASTPOOL_DEBUG_TOKEN or --token."
    return (
        f"{clean(address)}: permission denied.\n"
        "A socket is open to the user of its process and to root: run this as one of them."
    )


def _of_process(pid: int, token: str | None) -> debug.Connection:
    address = debug.sockets().get(pid)
    if address is not None:
        try:
            return debug.connect(address, token=token)
        except (FileNotFoundError, ConnectionRefusedError):
            pass  # it was left behind
        except PermissionError as error:
            raise NoTarget(_refused(address, error)) from None
        except OSError as error:
            raise NoTarget(f"{clean(address)}: {error}") from None
    _has_to_be_ours(pid)
    try:
        address = attach(pid)
    except NotAttached as why:
        raise NoTarget(
            f"Process {pid} has no debug socket where it is looked for.\n{HOW}\n"
            f"It cannot be opened from here: {why}."
        ) from None
    return _at(address, token)


def _has_to_be_ours(pid: int) -> None:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        raise NoTarget(f"There is no process {pid}.") from None
    except PermissionError:
        raise NoTarget(
            f"Process {pid} belongs to another user: permission denied.\n"
            "Run this as that user, or as root."
        ) from None


def _the_only_one(token: str | None) -> debug.Connection:
    found = {pid: place for pid, place in debug.sockets().items() if pid != os.getpid()}
    living = {pid: _program(address, token) for pid, address in sorted(found.items())}
    there = {pid: program for pid, program in living.items() if program is not None}
    if not there:
        raise NoTarget(f"No process with a debug socket was found.\n{HOW}")
    if len(there) > 1:
        rows = [f"  {pid:>8}  {tail(program, 68)}" for pid, program in there.items()]
        text = "\n".join(["Several processes have a debug socket; say which:", *rows])
        raise NoTarget(text)
    (pid,) = there
    return _at(found[pid], token)


def _program(address: str, token: str | None) -> str | None:
    """What runs there; None: nobody listens any more."""
    try:
        with debug.connect(address, token=token, timeout=QUICK) as process:
            return clean(process.ask(get="pools")["program"]) or "python"
    except PermissionError as error:
        return "(permission denied)" if error.errno else "(wants a token)"
    except TimeoutError:
        return "(does not answer)"
    except OSError:
        return None
