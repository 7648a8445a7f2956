"""How all pictures look: light, named where the eye is, and told apart by colour-blind eyes too."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import PercentFormatter

from slm.core.files import replacing, writing
from slm.report.display import DPI

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # of Okabe & Ito (2008)
INK, GRAY, PALE = "#222222", "#666666", "#e8e8e8"
HEAT = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#fbd9bf", "#f0a36b", ORANGE])
DARK = LinearSegmentedColormap.from_list("dark", ["#f3f6f9", "#8fbbd9", BLUE, "#00304d"])
WIDTH = 6.4  # inches
LABEL_GAP = 0.05  # in heights of the axes
PERCENT = PercentFormatter(xmax=1, decimals=0)

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRAY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": ["DejaVu Sans"],  # matplotlib brings it: the same picture everywhere
    "figure.constrained_layout.use": True,
    "grid.color": "#eeeeee",
    "text.color": INK,
    "text.parse_math": False,  # a dollar is a dollar
    "xtick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.color": GRAY,
    "ytick.labelcolor": INK,
}
matplotlib.rcParams.update(STYLE)


def new_axes(height: float, xlabel: str, ylabel: str) -> Axes:
    """Axes in a new figure of so many inches."""
    axes = Figure(figsize=(WIDTH, height)).subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return axes


def label_right(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Names at the right edge, each a height, a text and a colour; they make room for each other."""
    labels = sorted(labels)
    scale = axes.transData + axes.transAxes.inverted()
    heights = [min(1.0, float(scale.transform((0, height))[1])) for height, _, _ in labels]
    for at, (_, text, color) in zip(spread(heights, LABEL_GAP), labels, strict=True):
        place = {"xycoords": "axes fraction", "xytext": (6, 0), "textcoords": "offset points"}
        axes.annotate(text, (1, at), color=color, va="center", **place)


def spread(heights: list[float], gap: float) -> list[float]:
    """The nearest heights, by least squares, that lie `gap` apart; `heights` ascend.

    Without the gaps they only have to ascend, which is isotonic regression: neighbours that do not are pooled
    (Barlow et al. 1972).
    """
    pools: list[tuple[float, int]] = []  # mean and number
    for n, height in enumerate(heights):
        pools.append((height - n * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n_a), (b, n_b) = pools.pop(), pools.pop()
            pools.append(((a * n_a + b * n_b) / (n_a + n_b), n_a + n_b))
    flat = [mean for mean, number in pools for _ in range(number)]
    return [height + n * gap for n, height in enumerate(flat)]


def printable(text: str) -> str:
    """The text with a box for each sign that the font has not."""
    font = get_font(findfont("DejaVu Sans Mono"))
    return "".join(c if font.get_char_index(ord(c)) and c.isprintable() else "□" for c in text)


def brief(text: str, longest: int) -> str:
    """The text, or as much of it as there is room for."""
    return printable(text if len(text) <= longest else f"{text[: longest - 1]}…")


def write_picture(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on the picture alone: by itself it would hold the program's version."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def save(pictures: dict[str, Figure], folder: Path) -> None:
    """Write each picture as NAME.png, and remove those of an earlier run."""
    for name, figure in pictures.items():
        write_picture(figure, folder / f"{name}.png")
    for path in sorted(folder.glob("*.png")):
        if path.stem not in pictures:
            with writing(path):
                path.unlink()
