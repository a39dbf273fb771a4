"""The picture of a run: turns a second over threads, a line for each contestant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.scaling import Found
from bench.svg import FAINT, INK, line, picture, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 520, 64, 250, 56, 48
COLOURS = (
    "#00796b", "#26a69a", "#80cbc4", "#c62828", "#ef6c00", "#6a1b9a", "#1565c0",
    "#607d8b", "#8d6e63", "#ad1457", "#558b2f", "#455a64", "#f9a825",
)  # fmt: skip
OURS = "fastpool"


def svg(title: str, found: Found, sizes: Sequence[int]) -> str:
    """The whole file; both axes are logarithmic."""
    medians = {name: {n: r.median for n, r in rates.items()} for name, rates in found.items()}
    every = [rate for rates in medians.values() for rate in rates.values()]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    last = max(math.log2(sizes[-1]), 1)

    def x(threads: int) -> float:
        return round(LEFT + math.log2(threads) / last * (WIDTH - LEFT - RIGHT), 1)

    def y(rate: float) -> float:
        share = (math.log10(rate) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def axes() -> Iterator[str]:
        yield text(LEFT, 26, title, 16, INK, "600")
        yield text(LEFT, 44, "turns a second of all threads together", 11, FAINT)
        for power in range(low, high + 1):
            yield line(LEFT, y(10**power), WIDTH - RIGHT, y(10**power), "2 3", FAINT)
            yield text(LEFT - 6, y(10**power) + 4, f"{10**power:,}", 10, FAINT, anchor="end")
        for threads in sizes:
            yield text(x(threads), HEIGHT - BOTTOM + 18, str(threads), 11, INK, anchor="middle")
        yield text(WIDTH - RIGHT, HEIGHT - 10, "threads", 11, FAINT, anchor="end")

    def curves() -> Iterator[str]:
        ends = sorted(medians, key=lambda name: -medians[name][sizes[-1]])
        label = TOP
        for i, (name, rates) in enumerate(medians.items()):
            points = " ".join(f"{x(n)},{y(rate)}" for n, rate in rates.items())
            width = 3 if name.startswith(OURS) else 1.5
            yield (
                f'<polyline points="{points}" fill="none" stroke="{COLOURS[i % len(COLOURS)]}" '
                f'stroke-width="{width}"/>'
            )
        for name in ends:  # in the order in which the curves end
            colour = COLOURS[list(medians).index(name) % len(COLOURS)]
            label += 18
            x0 = WIDTH - RIGHT + 20
            yield line(x0, label - 4, x0 + 22, label - 4, colour=colour)
            weight = "600" if name.startswith(OURS) else "400"
            yield text(x0 + 28, label, name, 12, INK, weight)

    about = "; ".join(
        f"{name}: {rates[sizes[0]]:,.0f} with {sizes[0]} threads, "
        f"{rates[sizes[-1]]:,.0f} with {sizes[-1]}"
        for name, rates in medians.items()
    )
    return picture(WIDTH, HEIGHT, title, about, [*axes(), *curves()])
