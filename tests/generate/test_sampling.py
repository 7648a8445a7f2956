"""Sampling of the next token, compared with Hugging Face's transformers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from slm.core.errors import UserError
from slm.generate.sampling import NUCLEUS_SEARCH_SIZE, next_token_probs, sample_next
from tests.tiny import sample_params

NO_TOKENS = torch.zeros(1, 0, dtype=torch.long)


def probs_of(logits, texts=NO_TOKENS, **changes):
    logits = torch.as_tensor(logits)
    return next_token_probs(logits, texts.expand(len(logits), -1), sample_params(**changes))


def reference(logits, texts, params):
    """Return the probabilities of Hugging Face's processors, in the order of its `generate`."""
    steps = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(params.repetition_penalty)])
    steps.append(TemperatureLogitsWarper(params.temperature))
    steps += [TopKLogitsWarper(params.top_k)] if params.top_k else []
    steps += [TopPLogitsWarper(params.top_p)] if params.top_p else []
    steps += [MinPLogitsWarper(params.min_p)] if params.min_p else []
    return steps(texts, logits.clone()).softmax(-1)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.7},
        {"top_k": 7},
        {"top_k": 1000},
        {"top_p": 0.8},
        {"top_p": 0.01},
        {"min_p": 0.2},
        {"min_p": 1.0},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.7},
        {"temperature": 1.7, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.2},
        {"temperature": 0.6, "top_k": 5, "top_p": 0.6},
        {"temperature": 2.0, "top_p": 0.7, "min_p": 0.3},
        {"temperature": 1.5, "repetition_penalty": 5.0, "min_p": 0.02},
    ],
)
def test_next_token_probs_match_transformers(changes):
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20, 50, generator=random)
    texts = torch.randint(50, (20, 30), generator=random)
    params = sample_params(**changes)
    probs, expected = next_token_probs(logits, texts, params), reference(logits, texts, params)
    torch.testing.assert_close(probs, expected)
    assert ((probs > 0) == (expected > 0)).all()


def test_nucleus_larger_than_first_search_matches_transformers():
    random = torch.Generator().manual_seed(0)
    flat = torch.rand(1, 3 * NUCLEUS_SEARCH_SIZE, generator=random)
    # Alone, and in a batch with a row whose nucleus is small.
    for logits in (flat, torch.cat([flat, 10 * flat])):
        params = sample_params(top_p=0.9)
        expected = reference(logits, NO_TOKENS, params)
        torch.testing.assert_close(probs_of(logits, top_p=0.9), expected)
    assert (expected[0] > 0).sum() > 2 * NUCLEUS_SEARCH_SIZE


def test_top_k_keeps_exactly_k_of_equal_logits():
    assert ((probs_of(torch.zeros(2, 6), top_k=4) > 0).sum(-1) == 4).all()
    assert (probs_of(torch.zeros(1, 6), top_k=99) == 1 / 6).all()


def test_temperature_divides_logits():
    for temperature in (0.5, 1.0, 2.0):
        weights = [math.exp(x / temperature) for x in (1, 2, 4)]
        expected = torch.tensor([[w / sum(weights) for w in weights]])
        torch.testing.assert_close(probs_of([[1.0, 2.0, 4.0]], temperature=temperature), expected)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-30, 1e-4])
def test_tiny_temperature_is_greedy(temperature):
    assert probs_of([[1.0, 30.0, 29.9]], temperature=temperature).tolist() == [[0.0, 1.0, 0.0]]


def test_repetition_penalty_changes_greedy_choice_for_any_sign():
    logits, text = torch.tensor([[1.0, 2.0, -3.0], [-1.0, -0.9, -3.0]]), torch.tensor([[1, 1, 2]])
    for penalty, expected in ((1.0, [1, 1]), (1.5, [1, 0]), (2.1, [0, 0])):
        probs = probs_of(logits, text, temperature=0.0, repetition_penalty=penalty)
        assert probs.argmax(-1).tolist() == expected


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-6, 0.3, 1.0, 7.0]), min_size=1, max_size=9).filter(any),
    st.integers(0, 2**24 - 1),
    st.sampled_from([None, 1, 3]),
)
def test_sample_next_inverts_the_cumulative_distribution(weights, step, top_k):
    """For any weights and any number in [0, 1), the number lies in the interval of the sampled token."""
    uniform = torch.tensor([step / 2**24])
    params, logits = sample_params(top_k=top_k), torch.tensor([weights]).log()
    token = int(sample_next(logits, NO_TOKENS, params, uniform))
    assert weights[token] > 0
    if top_k is None:
        before, total = sum(weights[:token]), sum(weights)
        assert before / total - 1e-6 <= 1 - uniform <= (before + weights[token]) / total + 1e-6


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.1}])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_sample_next_rejects_nan_and_inf_logits(changes, wrong):
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, wrong, 3.0, 4.0]])
    with pytest.raises(UserError, match="the model's logits contain NaN or Inf; train it again"):
        sample_next(logits, NO_TOKENS.expand(2, -1), sample_params(**changes), torch.tensor([0.5, 0.5]))
