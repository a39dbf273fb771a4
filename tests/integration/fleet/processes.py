"""Processes with a pool and a budget that do what a test says."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from support.helpers import PATIENCE

__all__ = ["Worker"]


class Worker:
    """One process; see worker.py.  ``path``: of a file, or a URL; ``server``: that counts;
    ``slots``: of each resource of a SharedPool."""

    def __init__(
        self, path: str, limit: int, maxsize: int = 20, server: int = 0, slots: int = 0
    ) -> None:
        program = [sys.executable, str(Path(__file__).with_name("worker.py"))]
        self.process = subprocess.Popen(
            [*program, path, str(limit), str(maxsize), str(server), str(slots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.hear() == "ready"

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        return self.hear()

    @property
    def leased(self) -> int:
        return int(self.do("stats").split()[0])

    @property
    def lapses(self) -> int:
        return int(self.do("stats").split()[3])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def quit(self, how: str = "quit") -> None:
        """Of its own accord; returns when it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how}\n")
        assert self.process.wait(PATIENCE) == 0

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        """For good, whatever state it is in."""
        self.signal(signal.SIGCONT)
        self.kill()
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                try:
                    end.close()
                except BrokenPipeError:  # what was written last, to a process that is gone
                    pass
