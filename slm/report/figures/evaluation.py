"""Plot the evaluation of the model and of its samples."""

from math import log2
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from slm.report.figures.style import (
    BLUE,
    GRAY,
    GREEN,
    INK,
    ORANGE,
    PALE,
    PERCENT,
    SILVER,
    WIDTH,
    brief,
    new_figure,
)
from slm.results.eval import Baseline, FrequencyLoss, PairScore, PositionLoss
from slm.results.samples import SampleQuality

COLORS = {"model": BLUE, "baseline": SILVER, "bound": GREEN}
CHANCE = 0.5
# Maximum length of the name of a phenomenon, in characters.
MAX_NAME = 30
MAX_TICKS = 12


def plot_bits_per_byte(baselines: list[Baseline], interval: list[float] | None) -> Figure:
    """Plot bits per byte of the model, with its 95 % confidence interval, and of the baselines."""
    names = [f"{b.name}\n(lower bound)" if b.kind == "bound" else b.name for b in baselines]
    figure, axes = new_figure(0.8 + 0.45 * len(names), "Validation bits per byte (lower is better)", "")
    values = [b.bits_per_byte for b in baselines]
    bars = axes.barh(names, values, color=[COLORS[b.kind] for b in baselines], height=0.62)
    labels = [f"{b.bits_per_byte:.3f}{_interval(b, interval)}" for b in baselines]
    axes.bar_label(bars, labels, padding=5)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    return figure


def plot_by_position(rows: list[PositionLoss]) -> Figure:
    """Plot the loss by context length, with hollow points for contexts longer than in training."""
    figure, axes = new_figure(3.6, "Context length in tokens (up to)", "Loss (nats per token)")
    trained = [row for row in rows if row.context == "in_context"]
    extrapolated = [row for row in rows if row.context == "extrapolated"]
    style: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 5}
    axes.plot([r.position for r in trained], [r.loss for r in trained], **style)
    if trained and extrapolated:
        # Begin the dashed line at the last trained point, but draw no second marker there.
        joined = [trained[-1], *extrapolated]
        hollow: dict[str, Any] = {"linestyle": "--", "markerfacecolor": "white", "markevery": slice(1, None)}
        axes.plot([r.position for r in joined], [r.loss for r in joined], **style | hollow)
        axes.axvline(trained[-1].position, color=GRAY, linewidth=1)
        place: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "color": GRAY,
        }
        edge = (trained[-1].position, 0.97)
        axes.annotate("training context", edge, xytext=(-6, 0), ha="right", va="top", **place)
        axes.annotate("longer", edge, xytext=(6, 0), va="top", **place)
    axes.set_xscale("log", base=2)
    axes.set_xticks([r.position for r in rows], [f"{r.position:,}" for r in rows])
    axes.minorticks_off()
    axes.set_ylim(0, 1.12 * max(row.loss for row in rows))
    for row in dict.fromkeys([rows[0], *trained[-1:], rows[-1]]):
        _label(axes, row.position, row.loss, f"{row.loss:.2f}")
    return figure


def plot_by_frequency(rows: list[FrequencyLoss]) -> Figure:
    """Plot the loss by the frequency of the token in training, and the share of such tokens in validation."""
    figure = Figure(figsize=(WIDTH, 4.6))
    top, bottom = figure.subplots(2, sharex=True, height_ratios=[2, 1])
    # Each class doubles the frequency. Tokens that never occur are apart on the left: log 0 does not exist.
    x = [log2(row.train_frequency) if row.train_frequency else -1.5 for row in rows]
    total = sum(row.tokens for row in rows)
    top.plot(x, [row.loss for row in rows], color=BLUE, marker="o", markersize=5)
    top.set(ylabel="Loss (nats per token)", ylim=0)
    bottom.bar(x, [row.tokens / total for row in rows], color=SILVER, width=0.8)
    bottom.set(
        ylabel="Share of\nvalidation tokens",
        xlabel="Occurrences of the token in the training data (at least)",
    )
    bottom.yaxis.set_major_formatter(PERCENT)
    # Label every second or third class where there are too many.
    step = -(-len(rows) // MAX_TICKS)
    bottom.set_xticks(x[::step], [_count(row.train_frequency) for row in rows[::step]])
    bottom.grid(visible=False, axis="x")
    return figure


def plot_minimal_pairs(rows: list[PairScore]) -> Figure:
    """Plot minimal-pair accuracy by phenomenon, in ascending order from the bottom, with chance as a line."""
    rows = sorted(rows, key=lambda row: (row.accuracy, row.phenomenon))
    figure, axes = new_figure(1.0 + 0.32 * len(rows), "Accuracy (correct sentence is more probable)", "")
    heights = range(len(rows))
    axes.hlines(heights, CHANCE, [row.accuracy for row in rows], color=PALE, linewidth=3)
    colors = [BLUE if row.accuracy > CHANCE else ORANGE for row in rows]
    axes.scatter([row.accuracy for row in rows], heights, color=colors, s=36, zorder=3)
    # Write each number on the side of its point that the line to chance leaves free.
    for height, row in zip(heights, rows, strict=True):
        dx, side = (8, "left") if row.accuracy > CHANCE else (-8, "right")
        text: dict[str, Any] = {"ha": side, "va": "center", "textcoords": "offset points", "fontsize": 9}
        axes.annotate(f"{row.accuracy:.0%}", (row.accuracy, height), xytext=(dx, 0), **text)
    axes.axvline(CHANCE, color=GRAY, linewidth=1, linestyle="--")
    above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
    axes.annotate("chance", (CHANCE, 1), color=GRAY, **above)
    axes.set_yticks(heights, [brief(row.phenomenon.replace("_", " "), MAX_NAME) for row in rows])
    axes.set_xlim(min(0.4, rows[0].accuracy - 0.1), 1.06)
    axes.set_xticks([tick / 10 for tick in range(11) if tick / 10 >= axes.get_xlim()[0]])
    axes.xaxis.set_major_formatter(PERCENT)
    axes.grid(visible=False, axis="y")
    return figure


def plot_samples(rows: list[SampleQuality]) -> Figure:
    """Plot consistency, distinct-2 and copy rate over the sampling temperature."""
    # A metric that the corpus does not support has no panel.
    metrics: dict[str, list[float | None]] = {
        "Consistency": [row.consistency for row in rows],
        "Diversity (distinct-2)": [row.distinct_2 for row in rows],
        "Copy rate": [row.copy_rate for row in rows],
    }
    known = {
        name: [value for value in values if value is not None]
        for name, values in metrics.items()
        if None not in values
    }
    figure = Figure(figsize=(WIDTH, 2.9))
    panels = figure.subplots(1, len(known), sharex=True, sharey=True, squeeze=False)[0]
    temperatures = [row.temperature for row in rows]
    for axes, (name, values) in zip(panels, known.items(), strict=True):
        axes.plot(temperatures, values, color=BLUE, marker="o", markersize=5, clip_on=False)
        axes.set_title(name, fontsize=10, color=INK, loc="left")
        for x, y in dict.fromkeys([(temperatures[0], values[0]), (temperatures[-1], values[-1])]):
            _label(axes, x, y, f"{y:.0%}")
        axes.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
        axes.margins(x=0.16)
    panels[0].set_ylim(0, 1.12)
    panels[0].set_yticks([0, 0.25, 0.5, 0.75, 1])
    panels[0].yaxis.set_major_formatter(PERCENT)
    figure.supxlabel("Temperature", fontsize=10)
    return figure


def _interval(baseline: Baseline, interval: list[float] | None) -> str:
    """Return the 95 % confidence interval of the model as text; baselines have none."""
    if baseline.kind != "model" or interval is None:
        return ""
    return f"  (95% CI {interval[0]:.3f}–{interval[1]:.3f})"


def _label(axes: Axes, x: float, y: float, text: str) -> None:
    """Write a number above its point, on a white background that hides the lines behind it."""
    style: dict[str, Any] = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center", "fontsize": 9}
    axes.annotate(text, (x, y), bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8}, **style)


def _count(frequency: int) -> str:
    """Return the lower end of a frequency class as text: 1k for 1,024."""
    return EngFormatter(sep="", places=0)(frequency) if frequency else "never"
