"""Pictures of a training run and its result, drawn to be read."""

import csv
import math
from contextlib import suppress
from pathlib import Path
from typing import Annotated, ClassVar

import matplotlib

matplotlib.use("Agg")  # draws to files, needs no screen

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field

from slm.files import read_json, replacing
from slm.params import Section, UserError

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"  # told apart by colour-blind eyes too


class Result(Section):
    """What is drawn of eval.json; what is not known is None."""

    section: ClassVar[str] = "eval"
    model_config = ConfigDict(extra="ignore")

    val_loss: float
    bits_per_byte: Annotated[float, Field(gt=0)]
    ngram_order: int | None = None
    ngram_bits_per_byte: float | None = None
    entropy_bits_per_byte: float | None = None


def plot_loss(reports: Path, path: Path) -> None:
    """Training and validation loss over tokens, with what the evaluation knows to compare them with."""
    train = read_curve(reports / "train.csv", "tokens", "train_loss")
    validation = read_curve(reports / "val.csv", "tokens", "val_loss")
    result = read_result(reports / "eval.json")
    figure, axes = _axes("Loss (nats a token)", "Tokens seen in training")
    axes.plot(train["tokens"], train["train_loss"], color=BLUE, linewidth=1, alpha=0.7)
    axes.plot(validation["tokens"], validation["val_loss"], color=ORANGE, marker="o", markersize=3)
    _label_end(axes, train["tokens"], train["train_loss"], "training", BLUE, 6)
    _label_end(axes, validation["tokens"], validation["val_loss"], "validation", ORANGE, -6)
    nats_a_token = result.val_loss / result.bits_per_byte  # of one bit a byte, with this tokenizer
    if result.ngram_bits_per_byte is not None:
        _level(axes, result.ngram_bits_per_byte * nats_a_token, f"{result.ngram_order}-gram")
    if result.entropy_bits_per_byte is not None:
        _level(axes, result.entropy_bits_per_byte * nats_a_token, "entropy")
    axes.set_ylim(0, 1.2 * validation["val_loss"][:2][-1])  # the first fall is steep and the same for all
    _save(figure, path)


def plot_optimization(reports: Path, path: Path) -> None:
    """Learning rate and gradient norm over tokens."""
    train = read_curve(reports / "train.csv", "tokens", "learning_rate", "grad_norm")
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
    result = read_result(reports / "eval.json")
    bars = [("this model", result.bits_per_byte, BLUE)]
    if result.ngram_bits_per_byte is not None:
        bars.insert(0, (f"{result.ngram_order}-gram", result.ngram_bits_per_byte, GRAY))
    if result.entropy_bits_per_byte is not None:
        bars.append(("entropy\n(best possible)", result.entropy_bits_per_byte, GREEN))
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


def read_curve(path: Path, *columns: str) -> dict[str, list[float]]:
    """Columns of a CSV of numbers. Raises UserError if they are not there, or hold something else."""
    curve: dict[str, list[float]] = {column: [] for column in columns}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                for column in columns:
                    curve[column].append(_number(row, column, f"{path}:{reader.line_num}"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    if not curve[columns[0]]:
        raise UserError(f"{path}: no rows")
    return curve


def _number(row: dict[str, str], column: str, where: str) -> float:
    with suppress(KeyError, TypeError, ValueError):
        number = float(row[column])
        if math.isfinite(number) or column == "grad_norm":  # which may overflow in float16
            return number
    raise UserError(f"{where}: {column} should be a number")


def read_result(path: Path) -> Result:
    """The result of the evaluation. Raises UserError if it is missing or says something else."""
    return Result.check(read_json(path), path)


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
