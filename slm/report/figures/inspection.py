"""Figures of one sampled text: the probability of each token, and the attention weights."""

import re
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from slm.report.display import MAX_SURPRISAL, VISIBLE, shorten, surprisal, visible
from slm.report.figures.style import DARK, GRAY, HEAT, INK, WIDTH, brief, printable
from slm.results.samples import Inspection

# Characters per line, and the lines shown at most.
COLUMNS, MAX_LINES = 78, 60
# Inches: width of a character, height of a line, room above the text.
CHARACTER, LINE, HEAD = WIDTH / (COLUMNS + 2), 0.23, 0.75
# Width of a character of DejaVu Sans Mono, in em.
ADVANCE = 0.602
# Attention is shown for this many tokens at most, with names of this many characters.
MAX_TOKENS, MAX_NAME = 20, 12
# Inches: largest panel of one head, and least size of a token that is still readable.
MAX_PANEL, MIN_TOKEN = 3.3, 0.085


class Span(NamedTuple):
    """A part of a token on a line of text."""

    row: int
    column: int
    text: str
    token: int


def plot_token_probabilities(inspection: Inspection) -> Figure:
    """Plot the text, each token on a background that is darker the less probable it was."""
    spans = lay_out(inspection.tokens, COLUMNS, MAX_LINES)
    n_rows = max((span.row for span in spans), default=0) + 1
    height = HEAD + LINE * n_rows + 0.12
    figure = Figure(figsize=(WIDTH, height))
    figure.set_layout_engine("none")
    axes = figure.add_axes(
        (CHARACTER / WIDTH, 0.12 / height, COLUMNS * CHARACTER / WIDTH, LINE * n_rows / height)
    )
    axes.set(xlim=(0, COLUMNS), ylim=(n_rows, 0))
    axes.axis("off")
    scale = ScalarMappable(Normalize(0, MAX_SURPRISAL), HEAT)
    for row, column, text, token in spans:
        color = HEAT(surprisal(inspection.probabilities[token]) / MAX_SURPRISAL)
        axes.add_patch(Rectangle((column, row + 0.06), len(text), 0.88, color=color, linewidth=0))
        weight = "bold" if token < inspection.given else "normal"
        font: dict[str, Any] = {"family": "DejaVu Sans Mono", "size": 72 * CHARACTER / ADVANCE}
        axes.text(column, row + 0.53, printable(text), va="center", weight=weight, **font)
    figure.text(CHARACTER / WIDTH, 1 - 0.3 / height, "Probability of each token")
    legend = figure.add_axes((0.62, 1 - 0.3 / height, 0.35, 0.12 / height))
    bar = figure.colorbar(scale, cax=legend, orientation="horizontal")
    bar.set_ticks([0, 1, 2, 3], labels=["100%", "10%", "1%", "0.1%\nor less"])
    bar.outline.set_visible(False)
    legend.tick_params(length=0, labelsize=8)
    return figure


def lay_out(tokens: list[str], columns: int, max_lines: int) -> list[Span]:
    """Lay out tokens on at most `max_lines` lines; one that does not fit on a line begins the next."""
    spans: list[Span] = []
    row = column = 0
    for number, token in enumerate(tokens):
        # A token may be as long as the longest word of the corpus.
        shown = visible(shorten(token, columns * max_lines), keep="\n")
        for part in re.findall(rf"[^\n]{{0,{columns - 1}}}\n|[^\n]{{1,{columns}}}", shown):
            text = part.replace("\n", VISIBLE["\n"])
            if column + len(text) > columns:
                row, column, text = row + 1, 0, text.removeprefix(" ")
            if row >= max_lines:
                return spans
            spans.append(Span(row, column, text, number))
            column += len(text)
            if part.endswith("\n"):
                row, column = row + 1, 0
    return spans


def plot_attention(inspection: Inspection) -> Figure:
    """Plot the attention weights of each head of each layer for the first sentence."""
    # (L, H, T, T)
    weights = np.array(inspection.attention)
    tokens = first_sentence(inspection.tokens[: weights.shape[-1] - 1])
    n = len(tokens) + 1
    n_layer, n_head = weights.shape[:2]
    side = max(min(MAX_PANEL, WIDTH / n_head), MIN_TOKEN * n)
    figure = Figure(figsize=(n_head * side + 1.2, n_layer * side + 0.9), layout="compressed")
    panels = figure.subplots(n_layer, n_head, squeeze=False, sharex=True, sharey=True)
    names = ["start", *(brief(visible(token).strip() or "␣", MAX_NAME) for token in tokens)]
    for (layer, head), axes in np.ndenumerate(panels):
        square = np.where(np.tri(n, dtype=bool), weights[layer, head, :n, :n], np.nan)
        image = axes.imshow(square, cmap=DARK, vmin=0, vmax=1)
        _set_ticks(axes, names, min(9.0, 0.85 * 72 * side / n))
        axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8, color=GRAY, loc="right", y=0.86)
    figure.supxlabel("Attended token (key)", fontsize=10, color=INK)
    figure.supylabel("Current token (query)", fontsize=10, color=INK)
    bar = figure.colorbar(
        image, ax=panels, shrink=min(0.6, 2.2 / (n_layer * side)), aspect=20, format="{x:.0%}"
    )
    bar.outline.set_visible(False)
    bar.set_label("Attention weight")
    return figure


def first_sentence(tokens: list[str]) -> list[str]:
    """Return the tokens up to the end of the first sentence, MAX_TOKENS at most."""
    for n, token in enumerate(tokens[:MAX_TOKENS], start=1):
        if any(sign in token for sign in ".!?"):
            return tokens[:n]
    return tokens[:MAX_TOKENS]


def _set_ticks(axes: Axes, names: list[str], size: float) -> None:
    """Write the tokens beside the matrix."""
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    axes.tick_params(length=0, pad=2)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
