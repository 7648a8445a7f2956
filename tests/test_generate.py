"""Writing text."""

import math

import pytest
import torch
from torch import nn

from slm.model.gpt import GPT
from slm.text.generate import generate, next_token_probs
from slm.text.params import SampleParams
from tests.tiny import model_params

VOCAB, END = 11, 10


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(model_params(), VOCAB).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.3
    return model


def sample_params(**changes) -> SampleParams:
    values = {
        "prompts": [""],
        "num_samples": 3,
        "max_new_tokens": 20,
        "temperature": 1.0,
        "top_k": None,
        "seed": 1,
    }
    return SampleParams(**{**values, **changes})


class Fixed(nn.Module):
    """A model that gives each next token the same probabilities, whatever came before."""

    def __init__(self, probs: list[float]):
        super().__init__()
        self.params = model_params()
        self.device = torch.device("cpu")
        self.logits = torch.tensor(probs).log()

    def forward(self, ids, last):
        return self.logits.expand(len(ids), last, -1)


def greedy_by_hand(model, prompt, n):
    ids = [END, *prompt]
    for _ in range(n):
        ids.append(int(model(torch.tensor([ids[-8:]]))[0, -1].argmax()))
        if ids[-1] == END:
            return ids[1 + len(prompt) : -1]
    return ids[1 + len(prompt) :]


@pytest.mark.parametrize("prompt", [[], [3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]])
def test_temperature_0_takes_the_likeliest_token_past_block_size(model, prompt):
    expected = greedy_by_hand(model, prompt, 20)
    assert len(expected) == 20  # the model writes on, past its 8 tokens of context
    assert generate(model, prompt, sample_params(temperature=0.0), END) == [expected] * 3


def test_top_1_is_greedy_at_any_temperature(model):
    greedy = generate(model, [3], sample_params(temperature=0.0), END)
    assert generate(model, [3], sample_params(temperature=5.0, top_k=1), END) == greedy


def test_the_same_seed_writes_the_same_text_whatever_torch_drew_before(model):
    texts = []
    for seed in (1, 1, 2):
        texts.append(generate(model, [3], sample_params(seed=seed), END))
        torch.rand(7)
    assert texts[0] == texts[1] != texts[2]


def test_samples_of_a_prompt_differ(model):
    texts = generate(model, [3], sample_params(), END)
    assert len({tuple(text) for text in texts}) == 3


def test_top_k_never_leaves_the_likeliest_k():
    model = Fixed([0.1, 0.3, 0.05, 0.25, 0.3])
    for k, allowed in ((2, {1, 4}), (3, {1, 3, 4})):
        texts = generate(model, [], sample_params(num_samples=50, top_k=k), end_of_text=2)
        assert {token for text in texts for token in text} == allowed


def test_top_k_keeps_exactly_k_even_of_equals():
    probs = next_token_probs(torch.zeros(2, 6), temperature=1.0, top_k=4)
    assert ((probs > 0).sum(-1) == 4).all()
    assert (next_token_probs(torch.zeros(1, 6), temperature=1.0, top_k=99) == 1 / 6).all()


def test_a_text_ends_where_the_model_ends_it_and_the_others_go_on():
    n, end = 400, 0.25
    texts = generate(
        Fixed([1 - end, end]), [], sample_params(num_samples=n, max_new_tokens=10), end_of_text=1
    )
    assert all(token == 0 for text in texts for token in text)
    for length in range(3):  # lengths follow the geometric distribution
        expected = n * end * (1 - end) ** length
        assert abs(sum(len(text) == length for text in texts) - expected) < 4 * math.sqrt(expected)
    full = n * (1 - end) ** 10
    assert abs(sum(len(text) == 10 for text in texts) - full) < 4 * math.sqrt(full)


def test_draws_have_the_frequencies_of_the_distribution():
    probs, n = [0.5, 0.25, 0.15, 0.1], 8000
    params = sample_params(num_samples=n // 4, max_new_tokens=4)
    texts = generate(Fixed([*probs, 0.0]), [], params, end_of_text=4)
    drawn = [token for text in texts for token in text]
    assert len(drawn) == n
    chi_square = sum((drawn.count(i) - n * p) ** 2 / (n * p) for i, p in enumerate(probs))
    assert chi_square < 16.3  # 99.9 % of samples of 3 degrees of freedom


def test_temperature_is_that_of_the_formula():
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    for temperature in (0.5, 1.0, 2.0):
        weights = [math.exp(x / temperature) for x in (1, 2, 4)]
        expected = torch.tensor([[w / sum(weights) for w in weights]], dtype=torch.float64)
        torch.testing.assert_close(next_token_probs(logits, temperature, None), expected)


def test_a_tiny_temperature_is_greedy_not_an_overflow():
    probs = next_token_probs(torch.tensor([[1.0, 30.0, 29.9]]), 1e-300, None)
    assert probs.tolist() == [[0.0, 1.0, 0.0]]
