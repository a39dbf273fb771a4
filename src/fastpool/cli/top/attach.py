"""Opening the debug socket of a process that has none: from outside, on Python 3.14 and newer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["NotAttached", "attach"]

PATIENCE = 10.0  # seconds until the process has run the script

#: What the process runs, at its main thread's next step in Python: a thread of its own opens the
#: socket and answers by a file, so that the main thread waits for nothing.
SCRIPT = """
def fastpool_top(folder):
    def serve():
        import json, os, shutil, sys
        try:
            if "fastpool" not in sys.modules:
                said = {"error": "it has not imported fastpool"}
            else:
                from fastpool import debug
                said = {"address": debug.serve().address}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        if not os.path.exists(os.path.join(folder, "waiting")):  # nobody reads it any more
            shutil.rmtree(folder, ignore_errors=True)
            return
        with open(os.path.join(folder, "part"), "w") as file:
            json.dump(said, file)
        os.replace(os.path.join(folder, "part"), os.path.join(folder, "answer"))

    import _thread
    _thread.start_new_thread(serve, ())

fastpool_top(FOLDER)
del fastpool_top
"""


class NotAttached(Exception):
    """The socket could not be opened from here; the text says what is missing."""


def attach(pid: int) -> str:
    """Have the process open its debug socket, and return the address.

    NotAttached: what is missing for it.  The socket stays open until the process ends.
    """
    execute: Callable[[int, str], None] | None = getattr(sys, "remote_exec", None)
    if execute is None:
        version = ".".join(map(str, sys.version_info[:2]))
        raise NotAttached(f"that needs Python 3.14 or newer, here and there, and this is {version}")
    folder = Path(tempfile.mkdtemp(prefix="fastpool-top-"))
    script, waiting = folder / "script.py", folder / "waiting"
    waiting.touch()
    script.write_text(SCRIPT.replace("FOLDER", repr(str(folder))))
    answered = False
    try:
        _give_to(pid, folder)
        _execute(execute, pid, str(script))
        said = _answer(folder)
        answered = True
    except NotAttached as error:
        answered = not isinstance(error, Late)
        raise
    finally:
        if answered:
            shutil.rmtree(folder, ignore_errors=True)
        else:  # the process may come to the script yet, and then removes the folder itself
            waiting.unlink(missing_ok=True)
    if "address" not in said:
        raise NotAttached(str(said.get("error")))
    return str(said["address"])


class Late(NotAttached):
    """The process has not run the script yet."""


def _give_to(pid: int, folder: Path) -> None:
    """Let the process read and write there, if it is another user's and we are root."""
    if os.getuid() == 0:
        with contextlib.suppress(OSError):
            os.chown(folder, os.stat(f"/proc/{pid}").st_uid, -1)


def _execute(execute: Callable[[int, str], None], pid: int, script: str) -> None:
    try:
        execute(pid, script)
    except PermissionError:
        raise NotAttached(
            "the system does not let one process look into another (CAP_SYS_PTRACE, or "
            "kernel.yama.ptrace_scope=0, is missing)"
        ) from None
    except (OSError, RuntimeError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise NotAttached(f"{error}{cause}") from None


def _answer(folder: Path) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            said: dict[str, Any] = json.loads((folder / "answer").read_text())
            return said
        time.sleep(0.02)
    raise Late(
        f"its main thread has come to no line of Python within {PATIENCE:g} s (it waits, or "
        "computes in C); it opens the socket as soon as it does, so try again then"
    )
