"""Tests of the learning-rate and sequence-length schedules."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slm.train.params import decay_start, learning_rate, n_chunks
from tests.tiny import train_params

PARAMS = train_params(learning_rate=1e-2, min_lr=1e-3, warmup_steps=10, max_steps=110)


def test_warmup_is_linear_to_peak():
    rates = [learning_rate(step, PARAMS) for step in range(11)]
    assert rates == pytest.approx([1e-2 * k / 11 for k in range(1, 12)])


def test_cosine_decay_ends_at_min_lr():
    for step in range(10, 110):
        expected = 1e-3 + 9e-3 * math.cos(math.pi * (step - 10) / 200) ** 2  # by the half-angle formula
        assert learning_rate(step, PARAMS) == pytest.approx(expected)
    assert learning_rate(60, PARAMS) == pytest.approx((1e-2 + 1e-3) / 2)
    assert learning_rate(109, PARAMS) == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("warmup_steps", [0, 1, 5])
def test_learning_rate_is_positive_in_short_runs(warmup_steps):
    params = train_params(learning_rate=1e-2, min_lr=0.0, warmup_steps=warmup_steps, max_steps=5)
    assert all(0 < learning_rate(step, params) <= 1e-2 for step in range(5))


def test_wsd_decay_is_linear_to_min_lr():
    params = train_params(
        schedule="wsd", learning_rate=1e-2, min_lr=2e-3, warmup_steps=10, max_steps=110, decay_steps=40
    )
    assert decay_start(params) == 70
    assert {learning_rate(step, params) for step in range(10, 71)} == {1e-2}
    assert learning_rate(90, params) == pytest.approx((1e-2 + 2e-3) / 2)
    falls = [learning_rate(step, params) - learning_rate(step + 1, params) for step in range(70, 109)]
    assert falls == pytest.approx([8e-3 / 40] * 39)


@example(1e-2, 0.1, 5)  # 1e-3 + (1e-2 - 1e-3) is not 1e-2
@given(st.floats(1e-6, 1e-1), st.floats(0, 1), st.integers(1, 50))
def test_wsd_plateau_is_bitwise_independent_of_decay_keys(highest, share, decay_steps):
    params = train_params(
        schedule="wsd",
        learning_rate=highest,
        min_lr=share * highest,
        max_steps=60 + decay_steps,
        decay_steps=decay_steps,
    )
    plain = train_params(schedule="wsd", learning_rate=highest, min_lr=0.0, max_steps=60)
    assert [learning_rate(step, params) for step in range(60)] == [
        learning_rate(step, plain) for step in range(60)
    ]


def test_seq_len_warmup_has_4_then_2_then_1_chunks():
    params = train_params(seq_len_warmup_steps=5)
    assert [n_chunks(step, params) for step in range(8)] == [4, 4, 4, 2, 2, 1, 1, 1]
    assert n_chunks(0, train_params(seq_len_warmup_steps=0)) == 1
