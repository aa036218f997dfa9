"""The plots of the page: each takes plain numbers and gives an SVG element."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from segdeploy.html.svg import FAINT, INK, figure, inline, line, scale_for, series

Samples = Mapping[
    str, Sequence[float] | NDArray[np.float64]
]  # milliseconds by the name of what took them
WIDTH = 6.4  # inches: 460 CSS pixels and a font of 10 pixels, on a phone too
RASTER_FROM = 2000  # dots that are drawn as one picture: as elements they would fill the page
NAMED_CLASSES = 40  # up to so many have their name at an axis
NUMBERED_CLASSES = 12  # up to so many have their share in every cell
LEAST_SPAN = 2.0  # points of mIoU that an axis shows: noise does not look like a cliff
LABEL, LABEL_LINES = 32, 2  # letters and lines of a name at an axis
CELL_RGB = (0.18, 0.43, 0.87)  # legible below black and below white text


def distribution(samples: Samples, name: str, label: str) -> str:
    """How large a share of the steps took up to how many times the median, every step counted."""
    with figure(WIDTH, 3.4) as drawn:
        axes = drawn.add_subplot()
        shapes = {key: np.divide(steps, np.median(steps)) for key, steps in samples.items()}
        for number, times in enumerate(shapes.values()):
            axes.ecdf(times, color=series(number), linestyle=line(number), linewidth=1.8)
        scale_for(axes, "x", *_span(shapes))
        axes.axhline(0.99, color=INK, linewidth=0.7, linestyle=(0, (2, 3)))
        axes.set(
            xlabel="times the median step (dotted: 99 % of the steps)",
            ylabel="steps that took no longer",
            ylim=(0, 1.02),
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        return inline(drawn, name, label)


def in_order(samples: Samples, name: str, label: str) -> str:
    """Every step in the order of the run: drift, levels and spikes are seen at once."""
    with figure(WIDTH, 3.4) as drawn:
        axes = drawn.add_subplot()
        raster = sum(map(len, samples.values())) > RASTER_FROM
        for number, steps in enumerate(samples.values()):
            axes.plot(
                range(1, len(steps) + 1), steps, marker=".", markersize=4, linestyle="none",
                color=series(number), rasterized=raster,
            )  # fmt: skip
        low, high = _span(samples)
        scale_for(axes, "y", low, high)
        if high / low < 4:
            axes.set_ylim(bottom=0)
        axes.set(xlabel="step", ylabel="milliseconds")
        return inline(drawn, name, label)


def side_by_side(
    rows: Mapping[str, Mapping[str, tuple[float, float]]],
    kinds: Sequence[str],
    name: str,
    label: str,
) -> str:
    """Median and 99th percentile of each boundary: a dot, and a line to the right of it.

    Args:
        rows: what was measured: by boundary, its median and its 99th percentile.
        kinds: all boundaries, in the order of their colours.
        name: of the figure.
        label: for those who do not see it.
    """
    with figure(WIDTH, 0.9 + 0.17 * len(rows) * (len(kinds) + 1)) as drawn:
        axes = drawn.add_subplot()
        for place, row in enumerate(rows.values()):
            for number, kind in enumerate(kinds):
                if kind not in row:
                    continue
                y = place + (number - (len(kinds) - 1) / 2) * 0.7 / len(kinds)
                median, tail = row[kind]
                axes.plot([median, tail], [y, y], color=series(number), linewidth=1.5)
                axes.plot(median, y, marker="o", markersize=6, color=series(number))
        times = [time for row in rows.values() for pair in row.values() for time in pair]
        scale_for(axes, "x", min(times), max(times))
        axes.set_yticks(range(len(rows)), [_plain(text) for text in rows])
        axes.set(xlabel="milliseconds: median, and a line to p99", ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
        return inline(drawn, name, label)


def trade(
    points: Sequence[tuple[float, float]], front: Sequence[int], name: str, label: str
) -> str:
    """Draw mIoU over milliseconds, numbered from 1; a line joins those of `front`."""
    with figure(WIDTH, 4.0) as drawn:
        axes = drawn.add_subplot()
        best = sorted(points[k] for k in front)
        axes.plot(*zip(*best, strict=True), color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for number, (time, miou) in enumerate(points):
            colour = series(0) if number in front else series(1)
            axes.plot(time, miou, marker="o", markersize=8, color=colour, zorder=2)
            axes.annotate(
                str(number + 1), (time, miou), (6, 6), textcoords="offset points", fontsize=11
            )
        times = [time for time, _ in points]
        scale_for(axes, "x", min(times), max(times))
        axes.margins(0.12)
        low, high = min(miou for _, miou in points), max(miou for _, miou in points)
        room = max(0.12 * (high - low), (LEAST_SPAN - (high - low)) / 2)
        axes.set_ylim(low - room, high + room)
        axes.set(xlabel="milliseconds a step, median", ylabel="mIoU, %")
        return inline(drawn, name, label)


def confusion(shares: NDArray[np.float64], classes: Sequence[str], name: str, label: str) -> str:
    """Share of each true class (a row) that was taken for each class (a column); nan: absent."""
    count = len(classes)
    side = min(WIDTH, 2.2 + 0.26 * count)
    with figure(side + 0.4, side) as drawn:
        axes = drawn.add_subplot()
        cells = np.zeros((*shares.shape, 4))
        cells[..., :3] = CELL_RGB
        cells[..., 3] = np.nan_to_num(shares)
        axes.imshow(cells, interpolation="none", aspect="equal")
        axes.set(xlabel="taken for", ylabel="true class")
        axes.grid(visible=False)
        names = [_plain(text) for text in classes] if count <= NAMED_CLASSES else []
        if names:
            size = 9 if count <= 20 else 7
            axes.set_xticks(range(count), names, rotation=90, fontsize=size)
            axes.set_yticks(range(count), names, fontsize=size)
        for (row, column), share in np.ndenumerate(shares):
            if count <= NUMBERED_CLASSES and share >= 0.005:
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=9)
        for spine in axes.spines.values():
            spine.set(visible=True, color=FAINT)
        return inline(drawn, name, label)


def _span(samples: Samples) -> tuple[float, float]:
    return min(map(min, samples.values())), max(map(max, samples.values()))


def _plain(text: str) -> str:
    """A name from a file, not too long."""
    lines = [" ".join(part.split()) for part in text.splitlines()[:LABEL_LINES]]
    return "\n".join(part if len(part) <= LABEL else f"{part[: LABEL - 1]}…" for part in lines)
