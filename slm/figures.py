"""Pictures of a training run and its result, drawn to be read."""

import csv
import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, needs no screen

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slm.files import read_json, replacing

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"  # told apart by colour-blind eyes too


def plot_loss(reports: Path, path: Path) -> None:
    """Training and validation loss over tokens, with what the evaluation knows to compare them with."""
    train, validation = read_curve(reports / "train.csv"), read_curve(reports / "val.csv")
    figure, axes = _axes("Loss (nats a token)", "Tokens seen in training")
    axes.plot(train["tokens"], train["train_loss"], color=BLUE, linewidth=1, alpha=0.7)
    axes.plot(validation["tokens"], validation["val_loss"], color=ORANGE, marker="o", markersize=3)
    _label_end(axes, train["tokens"], train["train_loss"], "training", BLUE, 6)
    _label_end(axes, validation["tokens"], validation["val_loss"], "validation", ORANGE, -6)
    result = read_json(reports / "eval.json")
    nats_a_token = result["val_loss"] / result["bits_per_byte"]  # of one bit a byte, with this tokenizer
    for key, name in (("ngram_bits_per_byte", _ngram_name(result)), ("entropy_bits_per_byte", "entropy")):
        if key in result:
            _level(axes, result[key] * nats_a_token, name)
    axes.set_ylim(0, 1.2 * validation["val_loss"][1])  # the first fall is steep and the same for all
    _save(figure, path)


def plot_optimization(reports: Path, path: Path) -> None:
    """Learning rate and gradient norm over tokens."""
    train = read_curve(reports / "train.csv")
    figure, axes = plt.subplots(2, sharex=True, figsize=(7, 4.5), layout="constrained")
    for ax, key, name in zip(
        axes,
        ("learning_rate", "grad_norm"),
        ("Learning rate", "Gradient norm\n(before clipping)"),
        strict=True,
    ):
        ax.plot(train["tokens"], train[key], color=BLUE, linewidth=1)
        ax.set_ylabel(name)
        ax.set_ylim(0)
        _lighten(ax)
    axes[-1].set_xlabel("Tokens seen in training")
    axes[-1].xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    _save(figure, path)


def plot_bits_per_byte(reports: Path, path: Path) -> None:
    """The model's bits a byte beside those of an n-gram model and, where it is known, the text's entropy."""
    result = read_json(reports / "eval.json")
    bars = [("this model", result["bits_per_byte"], BLUE)]
    if "ngram_bits_per_byte" in result:
        bars.insert(0, (_ngram_name(result), result["ngram_bits_per_byte"], GRAY))
    if "entropy_bits_per_byte" in result:
        bars.append(("entropy\n(best possible)", result["entropy_bits_per_byte"], GREEN))
    names, values, colors = zip(*bars, strict=True)
    figure, axes = plt.subplots(figsize=(7, 0.7 + 0.6 * len(bars)), layout="constrained")
    drawn = axes.barh(names, values, color=colors, height=0.6)
    axes.bar_label(drawn, fmt="%.3f", padding=4)
    axes.invert_yaxis()
    axes.set_xlabel("Bits a byte of the validation split (less is better)")
    axes.margins(x=0.12)
    _lighten(axes)
    axes.grid(visible=False)
    _save(figure, path)


def read_curve(path: Path) -> dict[str, list[float]]:
    """The columns of a CSV of numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in rows[0]}


def _ngram_name(result: dict[str, float]) -> str:
    return f"{result.get('ngram_order', '?')}-gram"


def _axes(ylabel: str, xlabel: str) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    _lighten(axes)
    return figure, axes


def _lighten(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)


def _label_end(axes: Axes, xs: list[float], ys: list[float], name: str, color: str, dy: float) -> None:
    """Name a line at its end, with its last value."""
    axes.annotate(
        f"{name} {ys[-1]:.3f}",
        (xs[-1], ys[-1]),
        xytext=(6, dy),
        textcoords="offset points",
        color=color,
        va="center",
    )


def _level(axes: Axes, value: float, name: str) -> None:
    """A dashed line across, named at its left end."""
    if math.isfinite(value):
        axes.axhline(value, color=GRAY, linewidth=1, linestyle="--")
        axes.annotate(
            f"{name} {value:.3f}",
            (0, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            color=GRAY,
        )


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG without the date and version that would change its bytes."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)
