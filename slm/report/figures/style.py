"""Define the style of all figures: light, directly labeled and color-blind safe."""

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import PercentFormatter

from slm.core.files import atomic_write, convert_write_errors
from slm.report.display import DPI, shorten

# Color-blind safe colors (Okabe & Ito 2008).
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, GRAY, SILVER, PALE = "#222222", "#666666", "#b0b0b0", "#e8e8e8"
# Color maps for improbable tokens and for attention weights.
HEAT = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#fbd9bf", "#f0a36b", ORANGE])
DARK = LinearSegmentedColormap.from_list("dark", ["#f3f6f9", "#8fbbd9", BLUE, "#00304d"])
# Width of a figure in inches.
WIDTH = 6.4
# Minimum distance between labels at the right edge, as a fraction of the height of the axes.
LABEL_GAP = 0.05
PERCENT = PercentFormatter(xmax=1, decimals=0)

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRAY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    # matplotlib includes this font, so a figure is the same on every system.
    "font.family": ["DejaVu Sans"],
    "figure.constrained_layout.use": True,
    "grid.color": "#eeeeee",
    "text.color": INK,
    # Show dollar signs in tokens as they are, without TeX.
    "text.parse_math": False,
    "xtick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.color": GRAY,
    "ytick.labelcolor": INK,
}
# A matplotlibrc of the user must not change the figures.
matplotlib.rcdefaults()
matplotlib.style.use(STYLE)


def new_figure(height: float, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Return a figure with this height in inches, and its axes."""
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def label_right(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Write labels (height in data units, text, color) at the right edge, without overlaps."""
    labels = sorted(labels)
    # Labels above the top of the axes move to the top.
    scale = axes.transData + axes.transAxes.inverted()
    heights = [min(1.0, float(scale.transform((0, height))[1])) for height, _, _ in labels]
    for height, (_, text, color) in zip(spread(heights, LABEL_GAP), labels, strict=True):
        place: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (6, 0), "textcoords": "offset points"}
        axes.annotate(text, (1, height), color=color, va="center", **place)


def spread(heights: list[float], gap: float) -> list[float]:
    """Return the heights nearest to ascending `heights`, by least squares, that lie at least `gap` apart.

    After subtracting the gaps this is isotonic regression: pool adjacent violators (Barlow et al. 1972).
    """
    # Mean and size of each pool.
    pools: list[tuple[float, int]] = []
    for n, height in enumerate(heights):
        pools.append((height - n * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n_a), (b, n_b) = pools.pop(), pools.pop()
            pools.append(((a * n_a + b * n_b) / (n_a + n_b), n_a + n_b))
    flat = [mean for mean, size in pools for _ in range(size)]
    return [height + n * gap for n, height in enumerate(flat)]


def printable(text: str) -> str:
    """Replace characters that the font does not contain by boxes."""
    font = get_font(findfont("DejaVu Sans Mono"))
    return "".join(c if font.get_char_index(ord(c)) and c.isprintable() else "□" for c in text)


def brief(text: str, max_length: int) -> str:
    """Return a text with at most `max_length` characters, all of them printable."""
    return printable(shorten(text, max_length))


def write_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on the figure only: its metadata omit the matplotlib version."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def write_figures(figures: dict[str, Figure], folder: Path) -> None:
    """Write each figure as NAME.png, and remove the figures of an earlier run that are not among them."""
    for name, figure in figures.items():
        write_figure(figure, folder / f"{name}.png")
    for path in sorted(folder.glob("*.png")):
        if path.stem not in figures:
            with convert_write_errors(path):
                path.unlink()
