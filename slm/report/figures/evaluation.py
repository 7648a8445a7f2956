"""Pictures of how good the model is, and at what."""

from math import log2

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from slm.report.figures.style import BLUE, GRAY, GREEN, INK, ORANGE, PALE, PERCENT, WIDTH, brief, new_axes
from slm.results.eval import Baseline, FrequencyLoss, PairScore, PositionLoss
from slm.results.samples import SampleQuality

COLORS = {"model": BLUE, "baseline": "#b0b0b0", "bound": GREEN}
CHANCE = 0.5
LONGEST_NAME = 30  # characters


def draw_bits_per_byte(baselines: list[Baseline], interval: list[float] | None) -> Figure:
    """The model's bits a byte and how sure they are, beside those of what one can compare it with."""
    names = [f"{b.name}\n(best possible)" if b.kind == "bound" else b.name for b in baselines]
    axes = new_axes(0.8 + 0.45 * len(names), "Bits a byte of unseen text (less is better)", "")
    values = [b.bits_per_byte for b in baselines]
    bars = axes.barh(names, values, color=[COLORS[b.kind] for b in baselines], height=0.62)
    labels = [f"{b.bits_per_byte:.3f}{_within(b, interval)}" for b in baselines]
    axes.bar_label(bars, labels, padding=5)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    _only_bars(axes)
    return axes.figure


def draw_by_position(rows: list[PositionLoss]) -> Figure:
    """Loss by how many tokens a token is predicted from; what lies beyond the trained context is hollow."""
    axes = new_axes(3.6, "Tokens of context it is predicted from (up to)", "Loss (nats a token)")
    trained = [row for row in rows if row.context == "in_context"]
    beyond = [row for row in rows if row.context == "extrapolated"]
    style = {"color": BLUE, "marker": "o", "markersize": 5}
    axes.plot([r.position for r in trained], [r.loss for r in trained], **style)
    if trained and beyond:
        further = [trained[-1], *beyond]
        hollow = {"linestyle": "--", "markerfacecolor": "white", "markevery": slice(1, None)}
        axes.plot([r.position for r in further], [r.loss for r in further], **style | hollow)
        axes.axvline(trained[-1].position, color=GRAY, linewidth=1)
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "color": GRAY}
        edge = (trained[-1].position, 0.97)
        axes.annotate("trained context", edge, xytext=(-6, 0), ha="right", va="top", **place)
        axes.annotate("beyond", edge, xytext=(6, 0), va="top", **place)
    axes.set_xscale("log", base=2)
    axes.set_xticks([r.position for r in rows], [f"{r.position:,}" for r in rows])
    axes.minorticks_off()
    axes.set_ylim(0, 1.12 * max(row.loss for row in rows))
    for row in dict.fromkeys([rows[0], *trained[-1:], rows[-1]]):
        _value(axes, row.position, row.loss, f"{row.loss:.2f}")
    return axes.figure


def draw_by_frequency(rows: list[FrequencyLoss]) -> Figure:
    """Loss by how often a token occurs in training, over the share of such tokens in the validation split."""
    figure = Figure(figsize=(WIDTH, 4.6))
    above, below = figure.subplots(2, sharex=True, height_ratios=[2, 1])
    # Classes as wide as each other on a logarithmic scale, which has no place for 0.
    at = [log2(row.train_frequency) if row.train_frequency else -1.5 for row in rows]
    total = sum(row.tokens for row in rows)
    above.plot(at, [row.loss for row in rows], color=BLUE, marker="o", markersize=5)
    above.set(ylabel="Loss (nats a token)", ylim=0)
    below.bar(at, [row.tokens / total for row in rows], color="#b0b0b0", width=0.8)
    below.set(ylabel="Share of the\nvalidation tokens", xlabel="Times that the token occurs in training")
    below.yaxis.set_major_formatter(PERCENT)
    step = -(-len(rows) // 12)
    below.set_xticks(at[::step], [_short(row.train_frequency) for row in rows[::step]])
    below.grid(visible=False, axis="x")
    return figure


def draw_pairs(rows: list[PairScore]) -> Figure:
    """Accuracy in minimal pairs by phenomenon, the worst below, and that of a coin."""
    rows = sorted(rows, key=lambda row: (row.accuracy, row.phenomenon))
    axes = new_axes(1.0 + 0.32 * len(rows), "How often the right sentence is the likelier one", "")
    places = range(len(rows))
    axes.hlines(places, CHANCE, [row.accuracy for row in rows], color=PALE, linewidth=3)
    colors = [BLUE if row.accuracy > CHANCE else ORANGE for row in rows]
    axes.scatter([row.accuracy for row in rows], places, color=colors, s=36, zorder=3)
    for place, row in zip(places, rows, strict=True):
        dx, side = (8, "left") if row.accuracy > CHANCE else (-8, "right")
        text = {"ha": side, "va": "center", "textcoords": "offset points", "fontsize": 9}
        axes.annotate(f"{row.accuracy:.0%}", (row.accuracy, place), xytext=(dx, 0), **text)
    axes.axvline(CHANCE, color=GRAY, linewidth=1, linestyle="--")
    top = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
    axes.annotate("a coin", (CHANCE, 1), color=GRAY, **top)
    axes.set_yticks(places, [brief(row.phenomenon.replace("_", " "), LONGEST_NAME) for row in rows])
    axes.set_xlim(min(0.4, rows[0].accuracy - 0.1), 1.06)
    axes.set_xticks([tick / 10 for tick in range(11) if tick / 10 >= axes.get_xlim()[0]])
    axes.xaxis.set_major_formatter(PERCENT)
    axes.grid(visible=False, axis="y")
    return axes.figure


def draw_quality(rows: list[SampleQuality]) -> Figure:
    """Shares of the stories, and of their words, over the temperature they were written at."""
    measures = {
        "Stories that\ncontradict nothing": [row.consistency for row in rows],
        "Variety: different\npairs of words": [row.distinct_2 for row in rows],
        "Stories half\nof which is copied": [row.copy_rate for row in rows],
    }
    known = {name: values for name, values in measures.items() if None not in values}
    figure = Figure(figsize=(WIDTH, 2.9))
    panels = figure.subplots(1, len(known), sharex=True, sharey=True, squeeze=False)[0]
    temperatures = [row.temperature for row in rows]
    for axes, (name, values) in zip(panels, known.items(), strict=True):
        axes.plot(temperatures, values, color=BLUE, marker="o", markersize=5, clip_on=False)
        axes.set_title(name, fontsize=10, color=INK, loc="left")
        for x, y in dict.fromkeys([(temperatures[0], values[0]), (temperatures[-1], values[-1])]):
            _value(axes, x, y, f"{y:.0%}")
        axes.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
        axes.margins(x=0.16)
    panels[0].set_ylim(0, 1.12)
    panels[0].set_yticks([0, 0.25, 0.5, 0.75, 1])
    panels[0].yaxis.set_major_formatter(PERCENT)
    figure.supxlabel("Temperature", fontsize=10)
    return figure


def _within(baseline: Baseline, interval: list[float] | None) -> str:
    """What the 95 % interval adds to the model's own number."""
    if baseline.kind != "model" or interval is None:
        return ""
    return f"  ({interval[0]:.3f} to {interval[1]:.3f})"


def _only_bars(axes: Axes) -> None:
    """No grid and no ticks beside bars that have their names and numbers."""
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)


def _value(axes: Axes, x: float, y: float, text: str) -> None:
    """A number above its point, on a ground that lines do not cross."""
    style = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center", "fontsize": 9}
    axes.annotate(text, (x, y), bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8}, **style)


def _short(count: int) -> str:
    """1,024 as 1k, to mark a class by its lower end."""
    return EngFormatter(sep="", places=0)(count) if count else "never"
