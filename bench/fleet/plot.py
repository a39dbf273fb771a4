"""The picture of a run: a panel for each way, with the connections that the server counted.

One SVG file, written by hand, with nothing outside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from bench.fleet.scenarios import LIMIT, Run

WIDTH, LEFT, RIGHT, PANEL, GAP, TOP = 900, 48, 24, 110, 46, 64
INK, FAINT, OPEN, LOST = "#263238", "#607d8b", "#00796b", "#c62828"
MOST = LIMIT + 10  # of the scale


def svg(title: str, runs: Sequence[Run]) -> str:
    """The whole file."""
    lines = [_text(LEFT, 26, title, 17, INK, "600"), *_legend()]
    for i, run in enumerate(runs):
        lines += _panel(run, TOP + i * (PANEL + GAP))
    height = TOP + len(runs) * (PANEL + GAP)
    described = "; ".join(
        f"{run.title}: {run.most} open at most, {len(run.refusals)} refused" for run in runs
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label={quoteattr(title)} '
        'font-family="system-ui, sans-serif">'
    )
    back = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    about = f"<title>{escape(title)}</title><desc>{escape(described)}</desc>"
    return "\n".join([head, about, back, *lines, "</svg>\n"])


def _legend() -> Iterator[str]:
    yield f'<rect x="{LEFT}" y="36" width="12" height="10" fill="{OPEN}" opacity="0.75"/>'
    yield _text(LEFT + 18, 45, "open, as the server counts", 11, INK)
    yield f'<rect x="{LEFT + 190}" y="36" width="3" height="10" fill="{LOST}"/>'
    yield _text(LEFT + 200, 45, f"errors of callers in each second, up to {MOST}", 11, INK)


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
    yield _text(LEFT, top + 10, run.title, 13, INK, "600")
    yield _text(WIDTH - RIGHT, top + 10, f"{said}, {turns:.0f} turns/s", 12, INK, anchor="end")
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
    yield _line(LEFT, y(LIMIT), WIDTH - RIGHT, y(LIMIT), "4 3")
    yield _text(LEFT - 6, y(LIMIT) + 4, str(LIMIT), 11, INK, anchor="end")
    yield _text(LEFT - 6, bottom + 4, "0", 11, INK, anchor="end")
    yield _line(LEFT, bottom, WIDTH - RIGHT, bottom)
    free = 0.0
    for at, what in run.marks:
        label = f"{at:.0f} s: {what}"
        free = max(x(at), free)  # where the label before has ended
        yield _line(x(at), bottom, x(at), bottom + 5)
        if free + 6 * len(label) <= WIDTH:
            yield _text(free, bottom + 16, label, 10, FAINT)
            free += 6 * len(label)


def _line(x1: float, y1: float, x2: float, y2: float, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}"{dashed}/>'


def _text(
    x: float, y: float, text: str, size: int, fill: str, weight: str = "400", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
