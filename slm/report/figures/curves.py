"""Plot the training run."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from slm.report.figures.style import BLUE, GRAY, GREEN, ORANGE, WIDTH, label_right, new_figure
from slm.results.eval import Baseline
from slm.results.train import TrainPoint, ValidationPoint

# The loss axis ends at this multiple of the second validation loss: the first drop is steep in every run.
HEADROOM = 1.2


def plot_loss(
    train: list[TrainPoint],
    validation: list[ValidationPoint],
    baselines: list[Baseline],
    nats_per_bit: float,
    flops_per_token: int,
) -> Figure:
    """Plot the training and validation loss over tokens and FLOPs, with the baselines as dashed lines.

    `nats_per_bit` converts the baselines' bits per byte to nats per token.
    """
    figure, axes = new_figure(4.4, "Training tokens", "Loss (nats per token)")
    tokens = [point.tokens for point in train]
    axes.plot(tokens, [p.train_loss for p in train], color=BLUE, linewidth=1, alpha=0.7)
    style: dict[str, Any] = {"color": ORANGE, "marker": "o", "markersize": 3}
    axes.plot([p.tokens for p in validation], [p.val_loss for p in validation], **style)
    top = HEADROOM * validation[:2][-1].val_loss
    axes.set_ylim(0, top)
    axes.set_xlim(0, tokens[-1])
    # Label the curves and the baselines below the top at the right edge instead of in a legend.
    labels = [
        (train[-1].train_loss, f"training {train[-1].train_loss:.3f}", BLUE),
        (validation[-1].val_loss, f"validation {validation[-1].val_loss:.3f}", ORANGE),
    ]
    for baseline in baselines:
        level = baseline.bits_per_byte * nats_per_bit
        if baseline.kind != "model" and level < top:
            color = GREEN if baseline.kind == "bound" else GRAY
            axes.axhline(level, color=color, linewidth=1, linestyle="--")
            labels.append((level, f"{baseline.name} {level:.3f}", color))
    label_right(axes, labels)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    # Show the compute on a second x-axis: it is proportional to the tokens.
    to_flops, to_tokens = (lambda n: n * flops_per_token), (lambda n: n / flops_per_token)
    compute = axes.secondary_xaxis("top", functions=(to_flops, to_tokens))
    compute.xaxis.set_major_locator(MaxNLocator(5))
    compute.xaxis.set_major_formatter(EngFormatter(sep=""))
    compute.set_xlabel("Training compute (FLOPs)")
    return figure


def plot_optimization(train: list[TrainPoint]) -> Figure:
    """Plot the learning rate and the gradient norm over tokens."""
    figure = Figure(figsize=(WIDTH, 4.5))
    top, bottom = figure.subplots(2, sharex=True)
    tokens = [point.tokens for point in train]
    top.plot(tokens, [point.learning_rate for point in train], color=BLUE, linewidth=1)
    bottom.plot(tokens, [point.grad_norm for point in train], color=BLUE, linewidth=1)
    top.set(ylabel="Learning rate", ylim=0)
    bottom.set(ylabel="Gradient norm\n(before clipping)", ylim=0, xlabel="Training tokens")
    bottom.set_xlim(0, tokens[-1])
    bottom.xaxis.set_major_formatter(EngFormatter(sep=""))
    return figure
