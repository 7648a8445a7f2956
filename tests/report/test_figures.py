"""Tests of the figures: they contain the given numbers, fit any text and are deterministic."""

import os
import subprocess
import sys
import warnings
from itertools import pairwise

import matplotlib.colors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.report.display import visible
from slm.report.figures.curves import plot_loss, plot_optimization
from slm.report.figures.evaluation import (
    plot_bits_per_byte,
    plot_by_frequency,
    plot_by_position,
    plot_minimal_pairs,
    plot_samples,
)
from slm.report.figures.inspection import (
    MAX_TOKENS,
    first_sentence,
    lay_out,
    plot_attention,
    plot_token_probabilities,
)
from slm.report.figures.style import BLUE, ORANGE, printable, spread, write_figures
from slm.results.eval import Baseline, FrequencyLoss, PairScore, PositionLoss
from slm.results.samples import Inspection
from slm.results.train import TrainPoint, ValidationPoint
from tests.project import ROOT
from tests.result_files import quality

TRAIN = [
    TrainPoint(step=n, tokens=100 * n, train_loss=4 / n, learning_rate=0.1, grad_norm=1.0)
    for n in range(1, 9)
]
VALIDATION = [ValidationPoint(step=n, tokens=400 * n, val_loss=4 / (n + 1)) for n in range(3)]
BASELINES = [
    Baseline(name=name, kind=kind, bits_per_byte=bits)
    for name, kind, bits in (
        ("uniform", "baseline", 9),
        ("5-gram", "baseline", 1.5),
        ("this model", "model", 1),
        ("entropy", "bound", 0.5),
    )
]
ODD_TOKENS = [
    " $x$",
    "$\\nonsense{$",
    "日本",
    "\n",
    "_{2}",
    " 😀",
    "\n\n",
    "word " * 30,
    "a\nb",
    "",
    "\t",
    "\\frac",
    "<|endoftext|>",
]


def make_inspection(tokens, n_layer=2, n_head=3):
    """Return an inspection with uniform attention and equal probabilities."""
    n = min(len(tokens), 48)
    weights = [[1 / (t + 1) if s <= t else 0.0 for s in range(n)] for t in range(n)]
    return Inspection(
        given=2,
        tokens=tokens,
        probabilities=[0.5] * len(tokens),
        alternatives=[[("a", 0.5)]] * len(tokens),
        attention=[[weights] * n_head] * n_layer,
    )


def annotations(figure):
    """Return the texts inside the axes of a figure."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def levels(axes):
    """Return the heights of the dashed lines."""
    return [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]


def test_plot_loss_shows_baselines_in_nats_below_the_top():
    figure = plot_loss(TRAIN, VALIDATION, BASELINES, nats_per_bit=1.2, flops_per_token=1000)
    axes = figure.axes[0]
    assert levels(axes) == pytest.approx([1.5 * 1.2, 0.5 * 1.2])
    assert axes.get_ylim() == pytest.approx((0, 1.2 * VALIDATION[1].val_loss))
    assert {"5-gram 1.800", "entropy 0.600", "training 0.500", "validation 1.333"} == set(annotations(figure))


def test_plot_loss_has_an_axis_of_flops():
    figure = plot_loss(TRAIN, VALIDATION, BASELINES, nats_per_bit=1, flops_per_token=1000)
    figure.draw_without_rendering()
    axes, (compute,) = figure.axes[0], figure.axes[0].child_axes
    assert compute.get_xlim() == pytest.approx([1000 * x for x in axes.get_xlim()])
    assert compute.get_xlabel() == "Training compute (FLOPs)"


def test_plot_loss_keeps_labels_inside_when_the_loss_rises():
    worse = [*VALIDATION, ValidationPoint(step=3, tokens=1200, val_loss=99)]
    axes = plot_loss(TRAIN, worse, BASELINES, nats_per_bit=1, flops_per_token=1).axes[0]
    assert max(text.xy[1] for text in axes.texts) <= 1.05


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=8).map(sorted), st.floats(0, 0.3))
def test_spread_keeps_the_gap_and_the_mean(heights, gap):
    moved = spread(heights, gap)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(moved))
    assert sum(moved) == pytest.approx(sum(heights), abs=1e-9)
    if all(b - a >= gap for a, b in pairwise(heights)):
        assert moved == pytest.approx(heights, abs=1e-9)


def test_spread_moves_equal_heights_by_half_the_gap():
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


def test_plot_optimization_shows_every_point():
    top, bottom = plot_optimization(TRAIN).axes
    assert top.lines[0].get_ydata().tolist() == [0.1] * 8
    assert bottom.lines[0].get_xdata().tolist() == [point.tokens for point in TRAIN]


def test_plot_bits_per_byte_shows_the_interval_of_the_model_only():
    figure = plot_bits_per_byte(BASELINES, [0.9, 1.1])
    assert annotations(figure) == ["9.000", "1.500", "1.000  (95% CI 0.900–1.100)", "0.500"]
    assert annotations(plot_bits_per_byte(BASELINES, None))[2] == "1.000"
    assert [bar.get_width() for bar in figure.axes[0].patches] == [9, 1.5, 1, 0.5]


def positions(*rows):
    return [PositionLoss(position=p, context=c, loss=loss, tokens=9) for p, c, loss in rows]


def test_plot_by_position_shows_extrapolated_contexts_hollow():
    rows = positions((1, "in_context", 3), (2, "in_context", 2), (4, "extrapolated", 5))
    trained, extrapolated, edge = plot_by_position(rows).axes[0].lines
    assert trained.get_xdata().tolist() == [1, 2]
    assert extrapolated.get_xdata().tolist() == [2, 4]
    assert (extrapolated.get_markerfacecolor(), extrapolated.get_linestyle()) == ("white", "--")
    assert edge.get_xdata() == [2, 2]


def test_plot_by_position_in_context_only_has_one_line():
    axes = plot_by_position(positions((1, "in_context", 3), (2, "in_context", 2))).axes[0]
    assert len(axes.lines) == 1
    assert annotations(axes.figure) == ["3.00", "2.00"]


def test_plot_by_frequency_sets_unseen_tokens_apart():
    rows = [FrequencyLoss(train_frequency=n, loss=9 - n, tokens=n + 1, types=1) for n in (0, 1, 2, 4)]
    top, bottom = plot_by_frequency(rows).axes
    assert top.lines[0].get_xdata().tolist() == [-1.5, 0, 1, 2]
    assert [bar.get_height() for bar in bottom.patches] == pytest.approx([1 / 11, 2 / 11, 3 / 11, 5 / 11])
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["never", "1", "2", "4"]


def test_plot_minimal_pairs_marks_accuracies_below_chance():
    scores = {"names": 0.9, "colors": 0.3, "all_right": 1.0}
    rows = [PairScore(phenomenon=name, accuracy=score, pairs=9) for name, score in scores.items()]
    axes = plot_minimal_pairs(rows).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["colors", "names", "all right"]
    points = axes.collections[1]
    assert points.get_offsets()[:, 0].tolist() == [0.3, 0.9, 1.0]
    colors = [matplotlib.colors.to_hex(color).upper() for color in points.get_facecolors()]
    assert colors == [ORANGE, BLUE, BLUE]
    assert axes.get_xlim()[0] < 0.3
    assert [line.get_xdata() for line in axes.lines] == [[0.5, 0.5]]


def test_plot_samples_has_a_panel_for_known_consistency_only():
    panels = plot_samples([quality(t, consistency=0.8) for t in (0.5, 1.0)]).axes
    assert [axes.lines[0].get_ydata().tolist() for axes in panels] == [[0.8] * 2, [0.5] * 2, [0.25] * 2]
    assert len(plot_samples([quality(t, None) for t in (0.5, 1.0)]).axes) == 2


@given(st.lists(st.text(max_size=30), min_size=1, max_size=9), st.integers(2, 20))
def test_lay_out_keeps_all_text_within_the_columns(tokens, columns):
    spans = lay_out(tokens, columns, max_lines=999)
    end = (0, 0)
    for span in spans:
        assert (span.row, span.column) >= end
        end = (span.row, span.column + len(span.text))
        assert end[1] <= columns
    for number, token in enumerate(tokens):
        parts = "".join(span.text for span in spans if span.token == number)
        # Only a space at the start of a line may be missing.
        assert parts.replace(" ", "") == visible(token).replace(" ", "")


def test_lay_out_wraps_a_token_that_does_not_fit():
    spans = lay_out(["abc", " def", "\n", "g"], 6, max_lines=9)
    assert [span[:3] for span in spans] == [(0, 0, "abc"), (1, 0, "def"), (1, 3, "↵"), (2, 0, "g")]


def test_plot_token_probabilities_darkens_improbable_tokens():
    inspection = make_inspection(["a", "b", "c"]).model_copy(update={"probabilities": [1.0, 0.1, 0.001]})
    axes = plot_token_probabilities(inspection).axes[0]
    assert [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in axes.patches][::2] == [
        "#ffffff",
        ORANGE.lower(),
    ]
    assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]
    # The prompt has two tokens.
    assert [text.get_weight() for text in axes.texts] == ["bold", "bold", "normal"]


def test_plot_attention_shows_each_head_with_its_tokens():
    inspection = make_inspection(["Once", " upon", " a", " time", ".", " The", " end"])
    figure = plot_attention(inspection)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2 * 3
    weights = panels[4].images[0].get_array()
    # The start token and the first sentence.
    assert weights.shape == (6, 6)
    assert weights[3, :4].tolist() == [0.25] * 4
    assert weights.mask[3, 4:].all()
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels == ["start", "Once", "upon", "a", "time", "."]


def test_first_sentence_has_a_maximum_length():
    assert len(first_sentence(["word"] * 99)) == MAX_TOKENS
    assert first_sentence(["a", 'b!"', "c"]) == ["a", 'b!"']


@pytest.mark.parametrize("tokens", [ODD_TOKENS, [""], ["\n"]], ids=["odd", "empty", "line break"])
def test_figures_of_any_text_cause_no_warning(tokens, tmp_path):
    inspection = make_inspection(tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_figures(
            {
                "token_probabilities": plot_token_probabilities(inspection),
                "attention": plot_attention(inspection),
            },
            tmp_path,
        )


def test_printable_replaces_characters_that_the_font_lacks():
    assert printable("é→猫\x00 $") == "é→□□ $"


def test_figures_depend_on_the_numbers_only(tmp_path):
    pngs = []
    for name, loss in (("a", 2), ("b", 2), ("c", 3)):
        write_figures({"one": plot_by_position(positions((1, "in_context", loss)))}, tmp_path / name)
        pngs.append((tmp_path / name / "one.png").read_bytes())
    assert pngs[0] == pngs[1] != pngs[2]
    assert b"matplotlib" not in pngs[0]


def test_write_figures_removes_figures_of_an_earlier_run(tmp_path):
    figure = plot_by_position(positions((1, "in_context", 2)))
    write_figures({"one": figure, "two": figure}, tmp_path)
    write_figures({"one": figure}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


def test_lay_out_ends_after_the_last_line():
    spans = lay_out(["x" * 2_000_000, "\n", "end"], 10, max_lines=3)
    assert [span.row for span in spans] == [0, 1, 2]


MATPLOTLIBRC = """
lines.linewidth: 9
figure.facecolor: red
savefig.facecolor: red
savefig.bbox: tight
font.size: 30
axes.prop_cycle: cycler("color", ["red"])
"""
PLOT = """
from pathlib import Path
from slm.report.figures.evaluation import plot_by_position
from slm.report.figures.style import write_figures
from slm.results.eval import PositionLoss
row = PositionLoss(position=1, context="in_context", loss=2.0, tokens=9)
write_figures({"one": plot_by_position([row])}, Path("figures"))
"""


@pytest.mark.parametrize("place", ["MATPLOTLIBRC", "folder", "home"])
def test_figures_ignore_the_matplotlibrc_of_the_user(tmp_path, place):
    write_figures({"one": plot_by_position(positions((1, "in_context", 2.0)))}, tmp_path / "expected")
    paths = {"MATPLOTLIBRC": "user", "folder": "matplotlibrc", "home": "config/matplotlib/matplotlibrc"}
    path = tmp_path / paths[place]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MATPLOTLIBRC)
    env = {key: value for key, value in os.environ.items() if key != "MATPLOTLIBRC"}
    env |= {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    env |= {"MATPLOTLIBRC": str(path)} if place == "MATPLOTLIBRC" else {}
    subprocess.run([sys.executable, "-c", PLOT], cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "figures/one.png").read_bytes() == (tmp_path / "expected/one.png").read_bytes()
