"""Pictures show the numbers they are given, as they are, and nothing where there are none."""

import warnings
from itertools import pairwise

import matplotlib.colors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.report.display import shown
from slm.report.figures.curves import draw_loss, draw_optimization
from slm.report.figures.evaluation import (
    draw_bits_per_byte,
    draw_by_frequency,
    draw_by_position,
    draw_pairs,
    draw_quality,
)
from slm.report.figures.style import BLUE, ORANGE, printable, save, spread
from slm.report.figures.text import MOST_TOKENS, draw_attention, draw_heat, first_sentence, lay_out
from slm.results.eval import Baseline, FrequencyLoss, PairScore, PositionLoss
from slm.results.samples import Inspection
from slm.results.train import TrainPoint, ValidationPoint
from tests.findings import quality

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
ODD = [
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


def an_insight(tokens, n_layer=2, n_head=3):
    n = min(len(tokens), 48)
    rows = [[1 / (t + 1) if s <= t else 0.0 for s in range(n)] for t in range(n)]
    return Inspection(
        given=2,
        tokens=tokens,
        probabilities=[0.5] * len(tokens),
        alternatives=[[("a", 0.5)]] * len(tokens),
        attention=[[rows] * n_head] * n_layer,
    )


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def levels(axes):
    """The heights of dashed lines across."""
    return [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]


def test_the_loss_has_the_baselines_as_levels_in_nats_but_not_the_model_nor_what_lies_far_above():
    figure = draw_loss(TRAIN, VALIDATION, BASELINES, nats_per_bit=1.2, flops_per_token=1000)
    axes = figure.axes[0]
    assert levels(axes) == pytest.approx([1.5 * 1.2, 0.5 * 1.2])
    assert axes.get_ylim() == pytest.approx((0, 1.2 * VALIDATION[1].val_loss))
    assert {"5-gram 1.800", "entropy 0.600", "training 0.500", "validation 1.333"} == set(texts(figure))


def test_the_loss_is_also_over_operations():
    figure = draw_loss(TRAIN, VALIDATION, BASELINES, nats_per_bit=1, flops_per_token=1000)
    figure.draw_without_rendering()
    axes, (compute,) = figure.axes[0], figure.axes[0].child_axes
    assert compute.get_xlim() == pytest.approx([1000 * x for x in axes.get_xlim()])
    assert compute.get_xlabel() == "Training compute"


def test_a_run_whose_loss_rose_still_has_its_names_inside():
    worse = [*VALIDATION, ValidationPoint(step=3, tokens=1200, val_loss=99)]
    axes = draw_loss(TRAIN, worse, BASELINES, nats_per_bit=1, flops_per_token=1).axes[0]
    assert max(text.xy[1] for text in axes.texts) <= 1.05


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=8).map(sorted), st.floats(0, 0.3))
def test_names_make_room_for_each_other_without_moving_as_a_whole(heights, gap):
    found = spread(heights, gap)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(found))
    assert sum(found) == pytest.approx(sum(heights), abs=1e-9)
    if all(b - a >= gap for a, b in pairwise(heights)):
        assert found == pytest.approx(heights, abs=1e-9)


def test_two_names_at_one_height_move_half_the_gap_each():
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


def test_learning_rate_and_gradient_norm_are_drawn_point_by_point():
    above, below = draw_optimization(TRAIN).axes
    assert above.lines[0].get_ydata().tolist() == [0.1] * 8
    assert below.lines[0].get_xdata().tolist() == [point.tokens for point in TRAIN]


def test_only_the_models_own_bar_says_how_sure_it_is():
    figure = draw_bits_per_byte(BASELINES, [0.9, 1.1])
    assert texts(figure) == ["9.000", "1.500", "1.000  (0.900 to 1.100)", "0.500"]
    assert texts(draw_bits_per_byte(BASELINES, None))[2] == "1.000"
    assert [bar.get_width() for bar in figure.axes[0].patches] == [9, 1.5, 1, 0.5]


def positions(*rows):
    return [PositionLoss(position=p, context=c, loss=loss, tokens=9) for p, c, loss in rows]


def test_contexts_beyond_the_trained_ones_are_hollow_after_a_line():
    rows = positions((1, "in_context", 3), (2, "in_context", 2), (4, "extrapolated", 5))
    trained, beyond, edge = draw_by_position(rows).axes[0].lines
    assert trained.get_xdata().tolist() == [1, 2]
    assert beyond.get_xdata().tolist() == [2, 4]
    assert (beyond.get_markerfacecolor(), beyond.get_linestyle()) == ("white", "--")
    assert edge.get_xdata() == [2, 2]


def test_without_such_contexts_there_is_no_line():
    axes = draw_by_position(positions((1, "in_context", 3), (2, "in_context", 2))).axes[0]
    assert len(axes.lines) == 1
    assert texts(axes.figure) == ["3.00", "2.00"]


def test_tokens_that_training_never_had_stand_apart_from_the_rare_ones():
    rows = [FrequencyLoss(train_frequency=n, loss=9 - n, tokens=n + 1, types=1) for n in (0, 1, 2, 4)]
    above, below = draw_by_frequency(rows).axes
    assert above.lines[0].get_xdata().tolist() == [-1.5, 0, 1, 2]
    assert [bar.get_height() for bar in below.patches] == pytest.approx([1 / 11, 2 / 11, 3 / 11, 5 / 11])
    assert [label.get_text() for label in below.get_xticklabels()] == ["never", "1", "2", "4"]


def test_pairs_are_in_order_and_those_worse_than_a_coin_in_another_colour():
    scores = {"names": 0.9, "colours": 0.3, "all_right": 1.0}
    rows = [PairScore(phenomenon=name, accuracy=share, pairs=9) for name, share in scores.items()]
    axes = draw_pairs(rows).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["colours", "names", "all right"]
    points = axes.collections[1]
    assert points.get_offsets()[:, 0].tolist() == [0.3, 0.9, 1.0]
    colors = [matplotlib.colors.to_hex(color).upper() for color in points.get_facecolors()]
    assert colors == [ORANGE, BLUE, BLUE]
    assert axes.get_xlim()[0] < 0.3
    assert [line.get_xdata() for line in axes.lines] == [[0.5, 0.5]]


def test_consistency_is_a_panel_only_where_it_is_known():
    panels = draw_quality([quality(t, consistency=0.8) for t in (0.5, 1.0)]).axes
    assert [axes.lines[0].get_ydata().tolist() for axes in panels] == [[0.8] * 2, [0.5] * 2, [0.25] * 2]
    assert len(draw_quality([quality(t, None) for t in (0.5, 1.0)]).axes) == 2


@given(st.lists(st.text(max_size=30), min_size=1, max_size=9), st.integers(2, 20))
def test_a_text_is_laid_out_whole_within_its_columns_and_nothing_overlaps(tokens, columns):
    pieces = lay_out(tokens, columns)
    end = (0, 0)
    for piece in pieces:
        assert (piece.row, piece.column) >= end
        end = (piece.row, piece.column + len(piece.text))
        assert end[1] <= columns
    for number, token in enumerate(tokens):
        parts = "".join(piece.text for piece in pieces if piece.token == number)
        assert parts.replace(" ", "") == shown(token).replace(
            " ", ""
        )  # only a space may go at a line's start


def test_a_token_that_does_not_fit_begins_the_next_line_without_its_space():
    found = [(piece.row, piece.column, piece.text) for piece in lay_out(["abc", " def", "\n", "g"], 6)]
    assert found == [(0, 0, "abc"), (1, 0, "def"), (1, 3, "↵"), (2, 0, "g")]


def test_the_ground_of_a_token_is_the_darker_the_less_likely_it_was():
    insight = an_insight(["a", "b", "c"]).model_copy(update={"probabilities": [1.0, 0.1, 0.001]})
    axes = draw_heat(insight).axes[0]
    assert [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in axes.patches][::2] == [
        "#ffffff",
        ORANGE.lower(),
    ]
    assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]
    assert [text.get_weight() for text in axes.texts] == ["bold", "bold", "normal"]  # two were given


def test_attention_is_drawn_for_each_head_of_each_layer_with_the_tokens_beside_it():
    insight = an_insight(["Once", " upon", " a", " time", ".", " The", " end"])
    figure = draw_attention(insight)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2 * 3
    drawn = panels[4].images[0].get_array()
    assert drawn.shape == (6, 6)  # the start and the first sentence
    assert drawn[3, :4].tolist() == [0.25] * 4
    assert drawn.mask[3, 4:].all()
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names == ["start", "Once", "upon", "a", "time", "."]


def test_a_text_without_a_sentence_is_cut():
    assert len(first_sentence(["word"] * 99)) == MOST_TOKENS
    assert first_sentence(["a", 'b!"', "c"]) == ["a", 'b!"']


@pytest.mark.parametrize("tokens", [ODD, [""], ["\n"]], ids=["odd", "nothing", "a new line"])
def test_any_text_can_be_drawn_without_a_warning(tokens, tmp_path):
    insight = an_insight(tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save({"heat": draw_heat(insight), "attention": draw_attention(insight)}, tmp_path)


def test_signs_that_the_font_has_not_are_boxes():
    assert printable("é→猫\x00 $") == "é→□□ $"


def test_the_same_numbers_are_the_same_bytes_and_other_numbers_are_not(tmp_path):
    found = []
    for name, loss in (("a", 2), ("b", 2), ("c", 3)):
        save({"one": draw_by_position(positions((1, "in_context", loss)))}, tmp_path / name)
        found.append((tmp_path / name / "one.png").read_bytes())
    assert found[0] == found[1] != found[2]
    assert b"matplotlib" not in found[0]


def test_pictures_of_an_earlier_run_go(tmp_path):
    figure = draw_by_position(positions((1, "in_context", 2)))
    save({"one": figure, "two": figure}, tmp_path)
    save({"one": figure}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]
