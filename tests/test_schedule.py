"""The learning rate over time."""

import math

import pytest

from slm.training.schedule import learning_rate
from tests.tiny import train_params

PARAMS = train_params(learning_rate=1e-2, min_lr=1e-3, warmup_steps=10, max_steps=110)


def test_warm_up_rises_in_equal_steps_to_the_highest():
    rates = [learning_rate(step, PARAMS) for step in range(11)]
    assert rates == pytest.approx([1e-2 * k / 11 for k in range(1, 12)])


def test_decay_is_half_a_cosine_down_to_the_minimum():
    for step in range(10, 110):
        expected = 1e-3 + 9e-3 * math.cos(math.pi * (step - 10) / 200) ** 2  # by the half-angle formula
        assert learning_rate(step, PARAMS) == pytest.approx(expected)
    assert learning_rate(60, PARAMS) == pytest.approx((1e-2 + 1e-3) / 2)
    assert learning_rate(109, PARAMS) == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("warmup_steps", [0, 1, 5])
def test_every_step_learns_even_in_the_shortest_runs(warmup_steps):
    params = train_params(learning_rate=1e-2, min_lr=0.0, warmup_steps=warmup_steps, max_steps=5)
    assert all(0 < learning_rate(step, params) <= 1e-2 for step in range(5))
