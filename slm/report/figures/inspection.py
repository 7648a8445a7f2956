"""Plot the token probabilities and the attention weights of one sample."""

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

# Characters per line, and maximum number of lines.
COLUMNS, MAX_LINES = 78, 60
# Width of a character, height of a line and height of the legend, in inches.
CHARACTER, LINE, HEAD = WIDTH / (COLUMNS + 2), 0.23, 0.75
# Width of a character of DejaVu Sans Mono, in em.
ADVANCE = 0.602
# Maximum number of tokens in an attention matrix, and maximum length of their labels in characters.
MAX_TOKENS, MAX_LABEL = 20, 12
# Width and height of labels and color bar around the matrices, in inches.
MARGINS = 1.9, 1.1
# Maximum size of the matrix of a head and minimum size of a token in it, in inches.
MAX_MATRIX, MIN_TOKEN = 3.3, 0.085
# Width of all heads of a layer in inches, unless a token would be smaller than MIN_TOKEN.
LAYER_WIDTH = 5.7


class Span(NamedTuple):
    """A part of a token on a line of text."""

    row: int
    column: int
    text: str
    token: int


def plot_token_probabilities(inspection: Inspection) -> Figure:
    """Plot a text with a background for each token that is darker the less probable the token was."""
    spans = lay_out(inspection.tokens, COLUMNS, MAX_LINES)
    n_rows = max((span.row for span in spans), default=0) + 1
    height = HEAD + LINE * n_rows + 0.12
    figure = Figure(figsize=(WIDTH, height))
    # The text needs an exact position: COLUMNS characters wide, with a margin of one character.
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
    figure.text(CHARACTER / WIDTH, 1 - 0.3 / height, "Token probability")
    legend = figure.add_axes((0.6, 1 - 0.3 / height, 0.35, 0.12 / height))
    bar = figure.colorbar(scale, cax=legend, orientation="horizontal")
    bar.set_ticks([0, 1, 2, 3], labels=["100%", "10%", "1%", "0.1%\nor less"])
    bar.outline.set_visible(False)
    legend.tick_params(length=0, labelsize=8)
    return figure


def lay_out(tokens: list[str], columns: int, max_lines: int) -> list[Span]:
    """Break tokens into at most `max_lines` lines. A token that does not fit on a line begins the next."""
    spans: list[Span] = []
    row = column = 0
    for number, token in enumerate(tokens):
        # A token can be as long as the longest word of the corpus.
        text = visible(shorten(token, columns * max_lines), keep="\n")
        # Split the token at line breaks, and parts that are longer than a line.
        for part in re.findall(rf"[^\n]{{0,{columns - 1}}}\n|[^\n]{{1,{columns}}}", text):
            line = part.replace("\n", VISIBLE["\n"])
            if column + len(line) > columns:
                row, column, line = row + 1, 0, line.removeprefix(" ")
            if row >= max_lines:
                return spans
            spans.append(Span(row, column, line, number))
            column += len(line)
            if part.endswith("\n"):
                row, column = row + 1, 0
    return spans


def plot_attention(inspection: Inspection) -> Figure:
    """Plot the attention weights of each head for the first sentence."""
    weights = np.array(inspection.attention)  # (L, H, T, T)
    # The first position is the start token, which stands before the tokens of the text.
    tokens = first_sentence(inspection.tokens[: weights.shape[-1] - 1])
    n = len(tokens) + 1
    n_layer, n_head = weights.shape[:2]
    side = max(min(MAX_MATRIX, LAYER_WIDTH / n_head), MIN_TOKEN * n)
    figure = Figure(figsize=(n_head * side + MARGINS[0], n_layer * side + MARGINS[1]), layout="compressed")
    panels = figure.subplots(n_layer, n_head, squeeze=False, sharex=True, sharey=True)
    labels = ["start", *(brief(visible(token).strip() or "␣", MAX_LABEL) for token in tokens)]
    for (layer, head), axes in np.ndenumerate(panels):
        # Leave the masked upper triangle empty.
        matrix = np.where(np.tri(n, dtype=bool), weights[layer, head, :n, :n], np.nan)
        image = axes.imshow(matrix, cmap=DARK, vmin=0, vmax=1)
        _set_ticks(axes, labels, min(9.0, 0.85 * 72 * side / n))
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


def _set_ticks(axes: Axes, labels: list[str], size: float) -> None:
    """Label the rows and columns of an attention matrix with its tokens."""
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(len(labels)), labels, fontsize=size)
    axes.tick_params(length=0, pad=2)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
