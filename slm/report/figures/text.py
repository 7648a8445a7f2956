"""Pictures of a text that the model wrote: how likely it found each token, and where it looked."""

import re
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from slm.report.display import MOST_SURPRISE, VISIBLE, shown, surprise
from slm.report.figures.style import DARK, GRAY, HEAT, INK, WIDTH, brief, printable
from slm.results.samples import Inspection

COLUMNS = 78  # characters a line
CHARACTER, LINE, HEAD = WIDTH / (COLUMNS + 2), 0.23, 0.75  # inches: width, height, room above the text
ADVANCE = 0.602  # em: how wide a sign of DejaVu Sans Mono is
MOST_TOKENS = 20  # of a sentence whose attention is shown
LONGEST_NAME = 12  # characters
SIDE = 3.3  # inches of a picture of one head, at most
LEAST = 0.085  # inches a token there, so that it can be read


class Piece(NamedTuple):
    """A part of a token on a line of text."""

    row: int
    column: int
    text: str
    token: int


def draw_heat(inspection: Inspection) -> Figure:
    """The text, each token on a ground that is the darker the less likely the model found it."""
    pieces = lay_out(inspection.tokens, COLUMNS)
    n_rows = max((piece.row for piece in pieces), default=0) + 1
    height = HEAD + LINE * n_rows + 0.12
    figure = Figure(figsize=(WIDTH, height), layout="none")
    axes = figure.add_axes(
        (CHARACTER / WIDTH, 0.12 / height, COLUMNS * CHARACTER / WIDTH, LINE * n_rows / height)
    )
    axes.set(xlim=(0, COLUMNS), ylim=(n_rows, 0))
    axes.axis("off")
    scale = ScalarMappable(Normalize(0, MOST_SURPRISE), HEAT)
    for row, column, text, token in pieces:
        color = scale.to_rgba(surprise(inspection.probabilities[token]))
        axes.add_patch(Rectangle((column, row + 0.06), len(text), 0.88, color=color, linewidth=0))
        weight = "bold" if token < inspection.given else "normal"
        font = {"family": "DejaVu Sans Mono", "size": 72 * CHARACTER / ADVANCE, "weight": weight}
        axes.text(column, row + 0.53, printable(text), va="center", **font)
    figure.text(CHARACTER / WIDTH, 1 - 0.3 / height, "How likely the model found each token")
    legend = figure.add_axes((0.62, 1 - 0.3 / height, 0.35, 0.12 / height))
    bar = figure.colorbar(scale, cax=legend, orientation="horizontal")
    bar.set_ticks([0, 1, 2, 3], labels=["100%", "10%", "1%", "0.1%\nor less"])
    bar.outline.set_visible(False)
    legend.tick_params(length=0, labelsize=8)
    return figure


def lay_out(tokens: list[str], columns: int) -> list[Piece]:
    """Where each token stands in lines of so many characters; one that does not fit begins the next line."""
    pieces, row, column = [], 0, 0
    for number, token in enumerate(tokens):
        for part in re.findall(rf"[^\n]{{0,{columns - 1}}}\n|[^\n]{{1,{columns}}}", shown(token, keep="\n")):
            text = part.replace("\n", VISIBLE["\n"])
            if column + len(text) > columns:
                row, column, text = row + 1, 0, text.removeprefix(" ")
            pieces.append(Piece(row, column, text, number))
            column += len(text)
            if part.endswith("\n"):
                row, column = row + 1, 0
    return pieces


def draw_attention(inspection: Inspection) -> Figure:
    """Where each head of each layer looks in the first sentence: one small matrix for each."""
    weights = np.array(inspection.attention)  # (L, H, T, T)
    tokens = first_sentence(inspection.tokens[: weights.shape[-1] - 1])
    n = len(tokens) + 1
    n_layer, n_head = weights.shape[:2]
    side = max(min(SIDE, WIDTH / n_head), LEAST * n)
    figure = Figure(figsize=(n_head * side + 1.2, n_layer * side + 0.9), layout="compressed")
    panels = figure.subplots(n_layer, n_head, squeeze=False, sharex=True, sharey=True)
    names = ["start", *(brief(shown(token).strip() or "␣", LONGEST_NAME) for token in tokens)]
    for (layer, head), axes in np.ndenumerate(panels):
        square = np.where(np.tri(n, dtype=bool), weights[layer, head, :n, :n], np.nan)
        drawn = axes.imshow(square, cmap=DARK, vmin=0, vmax=1)
        _name(axes, names, min(9.0, 0.85 * 72 * side / n))
        axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8, color=GRAY, loc="right", y=0.86)
    figure.supxlabel("… it looks at", fontsize=10, color=INK)
    figure.supylabel("Having read as far as …", fontsize=10, color=INK)
    bar = figure.colorbar(
        drawn, ax=panels, shrink=min(0.6, 2.2 / (n_layer * side)), aspect=20, format="{x:.0%}"
    )
    bar.outline.set_visible(False)
    bar.set_label("share of its attention")
    return figure


def first_sentence(tokens: list[str]) -> list[str]:
    """The tokens up to one that ends a sentence, or as many as can be shown."""
    for n, token in enumerate(tokens[:MOST_TOKENS], start=1):
        if any(sign in token for sign in ".!?"):
            return tokens[:n]
    return tokens[:MOST_TOKENS]


def _name(axes: Axes, names: list[str], size: float) -> None:
    """Tokens beside the matrix instead of numbers."""
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    axes.tick_params(length=0, pad=2)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
