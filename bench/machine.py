"""What a figure depends on besides the code: interpreter, build flags, machine, versions.

Deliberately without host names, user names or paths, so that results can be shared as they are.
"""

from __future__ import annotations

import os
import platform
import re
import sysconfig
import textwrap
import time
from importlib import metadata
from typing import Any

from bench import peers
from bench.adapter import fastpool
from bench.measure import NotRun
from bench.peers import PEERS
from bench.targets import free_threaded, interpreter
from bench.task_peers import TASK_PEERS


def cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            for line in cpuinfo:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpus_allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Elsewhere:
    """How much of the machine's CPU time other programs took since this was made.

    Figures of waiting (P8 to P10, P13, P14) mean little when it is more than a tenth or so.
    """

    def __init__(self) -> None:
        self.machine, self.ours, self.wall = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """CPU seconds used by all and by us with our children, and the clock."""
        with open("/proc/stat") as stat:
            user, nice, system, _, _, irq, softirq, steal = map(int, stat.readline().split()[1:9])
        ticks = user + nice + system + irq + softirq + steal
        used = os.times()
        ours = used.user + used.system + used.children_user + used.children_system
        return ticks / os.sysconf("SC_CLK_TCK"), ours, time.monotonic()

    def share(self) -> float:
        """0 to 1, of all the CPU time there was."""
        machine, ours, wall = self._now()
        there_was = (wall - self.wall) * (os.cpu_count() or 1)
        others = (machine - self.machine) - (ours - self.ours)
        return max(0.0, min(1.0, others / there_was)) if there_was > 0.2 else 0.0


def watch() -> Elsewhere | None:
    """A watch on the rest of the machine; None where there is no /proc/stat."""
    try:
        return Elsewhere()
    except OSError:
        return None


def build_flags() -> list[str]:
    """Flags that change the interpreter's speed; those with a path in them are left out."""
    configured = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    flags = re.findall(r"--(?:with|without|enable|disable)-[\w-]+(?:=[\w,-]+)?", configured)
    compiled = str(sysconfig.get_config_var("OPT") or "").split()
    return flags + [flag for flag in compiled if re.fullmatch(r"-O\w|-DNDEBUG|-g", flag)]


def package_version() -> str | None:
    try:
        return str(getattr(fastpool(), "__version__", "unknown"))
    except NotRun:
        return None


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def describe() -> dict[str, Any]:
    """Everything that a reader needs to judge a figure."""
    return {
        "interpreter": interpreter(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "free_threaded": free_threaded(),
        "compiler": platform.python_compiler(),
        "build_flags": build_flags(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cpus_allowed": cpus_allowed(),
        "nice": os.nice(0) if hasattr(os, "nice") else 0,
        "fastpool": package_version(),
        "Cython": version_of("Cython"),
        "peers": peers.versions(peer.distribution for peer in (*PEERS, *TASK_PEERS)),
    }


def in_words(described: dict[str, Any]) -> list[str]:
    """A few lines for above a table, at most 78 columns each."""
    threads = "free-threaded" if described["free_threaded"] else "with the GIL"
    flags = " ".join(described["build_flags"]) or "no flags recorded"
    lines = [
        f"{described['implementation']} {described['python']} {threads}, fastpool "
        f"{described['fastpool'] or 'not built'}",
        f"build: {described['compiler']}; {flags}",
        f"{described['cpu']}, {described['cpus_allowed']} CPUs allowed, {described['system']}",
    ]
    if described.get("nice"):
        lines[-1] += f", run at nice {described['nice']}"
    installed = [f"{name} {version}" for name, version in described["peers"].items() if version]
    lines.append("peers: " + (", ".join(installed) or "none installed"))
    return [part for line in lines for part in textwrap.wrap(line, 78, subsequent_indent="  ")]
