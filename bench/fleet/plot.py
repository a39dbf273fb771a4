"""The picture of a run: a panel for each way, with the connections that the server counted.

One SVG file, written by hand, with nothing outside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.fleet.scenarios import LIMIT, Run
from bench.svg import FAINT, INK, line, picture, text

WIDTH, LEFT, RIGHT, PANEL, GAP, TOP = 900, 48, 24, 110, 46, 64
OPEN, LOST = "#00796b", "#c62828"
MOST = LIMIT + 10  # of the scale


def svg(title: str, runs: Sequence[Run]) -> str:
    """The whole file."""
    lines = [text(LEFT, 26, title, 17, INK, "600"), *_legend()]
    for i, run in enumerate(runs):
        lines += _panel(run, TOP + i * (PANEL + GAP))
    height = TOP + len(runs) * (PANEL + GAP)
    described = "; ".join(
        f"{run.title}: {run.most} open at most, {len(run.refusals)} refused" for run in runs
    )
    return picture(WIDTH, height, title, described, lines)


def _legend() -> Iterator[str]:
    yield f'<rect x="{LEFT}" y="36" width="12" height="10" fill="{OPEN}" opacity="0.75"/>'
    yield text(LEFT + 18, 45, "open, as the server counts", 11, INK)
    yield f'<rect x="{LEFT + 190}" y="36" width="3" height="10" fill="{LOST}"/>'
    yield text(LEFT + 200, 45, f"errors of callers in each second, up to {MOST}", 11, INK)


def _panel(run: Run, top: int) -> Iterator[str]:
    scale = (WIDTH - LEFT - RIGHT) / run.seconds
    bottom = top + PANEL

    def x(at: float) -> float:
        return round(LEFT + at * scale, 1)

    def y(n: float) -> float:
        return round(bottom - min(n, MOST) / MOST * (PANEL - 18), 1)

    errors = sum(run.errors.values())
    said = f"{len(run.refusals)} refused, {errors} errors of callers"
    turns = sum(run.turns.values()) / run.seconds
    yield text(LEFT, top + 10, run.title, 13, INK, "600")
    yield text(WIDTH - RIGHT, top + 10, f"{said}, {turns:.0f} turns/s", 12, INK, anchor="end")
    corners = [f"{x(0)},{bottom}"]
    for at, n in run.counts:
        corners.append(f"{x(at)},{y(n)}")
    corners.append(f"{x(run.seconds)},{bottom}")
    yield f'<polygon points="{" ".join(corners)}" fill="{OPEN}" opacity="0.75"/>'
    for second, n in sorted(run.failures.items()):
        if second >= run.seconds:
            continue
        yield (
            f'<rect x="{x(second)}" y="{y(n)}" width="3" height="{round(bottom - y(n), 1)}" '
            f'fill="{LOST}"/>'
        )
    yield line(LEFT, y(LIMIT), WIDTH - RIGHT, y(LIMIT), "4 3")
    yield text(LEFT - 6, y(LIMIT) + 4, str(LIMIT), 11, INK, anchor="end")
    yield text(LEFT - 6, bottom + 4, "0", 11, INK, anchor="end")
    yield line(LEFT, bottom, WIDTH - RIGHT, bottom)
    free = 0.0
    for at, what in run.marks:
        label = f"{at:.0f} s: {what}"
        free = max(x(at), free)  # where the label before has ended
        yield line(x(at), bottom, x(at), bottom + 5)
        if free + 6 * len(label) <= WIDTH:
            yield text(free, bottom + 16, label, 10, FAINT)
            free += 6 * len(label)
