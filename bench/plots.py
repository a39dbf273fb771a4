"""Plots of the recorded results, one bar per figure: how many times over its must it is.

Drawn from the JSON in bench/results/, so that one picture shows every interpreter that was run.
A bar that ends left of the line is a promise not kept; nothing is left out for being one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HOW_TO_GET = "plots need matplotlib: pip install matplotlib"


def margin(figure: dict[str, Any]) -> float | None:
    """Measured over must, turned round where less is better; None where nothing is promised."""
    must, measured = figure["must"], figure["measured"]
    if must is None or not measured:
        return None
    return measured / must if figure["sense"] == ">=" else must / measured


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """Result by interpreter, of all the JSON files in the folder."""
    found = {}
    for path in sorted(folder.glob("cpython-*.json")):
        result = json.loads(path.read_text())
        found[result["machine"]["interpreter"]] = result
    return found


def draw(folder: Path) -> list[Path]:
    """Write margins.svg and margins.png; ImportError when matplotlib is missing."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    results = recorded(folder)
    figure, axes = pyplot.subplots(
        1, len(results), figsize=(1 + 5 * len(results), 11), squeeze=False, sharex=True
    )
    for axis, (interpreter, result) in zip(axes[0], results.items(), strict=True):
        bars = [(f, m) for f in result["figures"] if (m := margin(f)) is not None][::-1]
        labels = [f"{f['key']}  {f['what']}" for f, _ in bars]
        colours = ["#2a7f62" if f["verdict"] == "reached" else "#c0392b" for f, _ in bars]
        axis.barh(labels, [m for _, m in bars], color=colours, height=0.7)
        axis.axvline(1, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.set_title(f"CPython {interpreter}")
        axis.set_xlabel("measured / must (1 = exactly what was promised)")
        axis.tick_params(axis="y", labelsize=7)
    figure.tight_layout()
    written = [folder / "margins.svg", folder / "margins.png"]
    for path in written:
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return written
