"""What was measured, as an SVG for the README: a panel a workload, its bars to its own scale; latencies below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from tests.bench.contenders import SINK
from tests.bench.results import Results

_COLOURS = {"applier": "#2f6f9f", "JDBC": "#b5651d", "limit": "#777777", "reading": "#aaaaaa"}
_WIDTH, _LABEL, _BAR, _STEP, _HEAD = 490, 170, 180, 19, 30
"""Of a panel, its labels, its longest bar; height of a bar's line and of a panel's head. Pixels."""
_TOP = 44
_COLUMNS = 2


@dataclass(frozen=True)
class _Panel:
    """`bars`: label, length, text behind it."""

    title: str
    bars: list[tuple[str, float, str]]

    @property
    def height(self) -> int:
        return _HEAD + _STEP * len(self.bars) + 10


def plot(results: Results) -> str:
    """Panels from left to right and from top to bottom."""
    heights = [_TOP] * _COLUMNS
    lines = list[str]()
    for panel in _panels(results):
        column = heights.index(min(heights))
        lines += _drawn(panel, column * _WIDTH, heights[column])
        heights[column] += panel.height
    size = f'width="{_WIDTH * _COLUMNS}" height="{max(heights)}"'
    waits = "its disk waited for" if results.durable else "not waiting for its disk"
    title = f"Rows a second into PostgreSQL ({waits}), everything on one machine, medians of one run"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
        f'<rect {size} fill="#ffffff"/><text x="12" y="24" font-size="15" font-weight="bold">{title}</text>'
    )
    return "\n".join([head, *lines, "</svg>"]) + "\n"


def _panels(results: Results) -> Iterator[_Panel]:
    for workload, per in results.runs.items():
        if workload in results.grown:
            continue
        bars = []
        for contender in per:
            rate, ratio = results.rate(workload, contender) or 0.0, results.ratio(workload, contender, SINK)
            times = "" if ratio is None or contender == SINK else f"  ({ratio:.1f} × sink)"
            bars.append((contender, rate, f"{rate:,.0f}{times}"))
        yield _Panel(workload.replace("_", ", "), bars)
    for rate in dict.fromkeys(asked for _, asked in results.latencies):
        bars = [
            (
                f"{contender} {quantile}",
                each.commit_ms.get(quantile, 0.0),
                f"{each.commit_ms.get(quantile, 0.0):,.0f} ms",
            )
            for (contender, asked), each in results.latencies.items()
            if asked == rate
            for quantile in ("p50", "p99")
        ]
        yield _Panel(f"from COMMIT to visible at {rate:,} transactions/s", bars)


def _drawn(panel: _Panel, x: int, y: int) -> Iterator[str]:
    most = max((length for _, length, _ in panel.bars), default=0.0) or 1.0
    yield f'<text x="{x + 12}" y="{y + 16}" font-weight="bold">{escape(panel.title)}</text>'
    for number, (label, length, text) in enumerate(panel.bars):
        at, width = y + _HEAD - 6 + number * _STEP, _BAR * length / most
        left = x + _LABEL
        yield f'<text x="{left - 8}" y="{at + 11}" text-anchor="end">{escape(label)}</text>'
        yield f'<rect x="{left}" y="{at}" width="{width:.1f}" height="14" rx="2" fill="{_colour(label)}"/>'
        yield f'<text x="{left + width + 6:.1f}" y="{at + 11}">{escape(text)}</text>'


def _colour(contender: str) -> str:
    return next((colour for word, colour in _COLOURS.items() if contender.startswith(word)), "#444444")
