"""Writing text, many texts at once."""

import math
from itertools import groupby, pairwise

import pytest
import torch
from torch import nn
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from slm.generate.batch import EVICTION_FRACTION, MAX_SEQUENCES, StreamedToken, generate, stream
from tests.model.test_cache import BLOCK_SIZE, MODELS, VOCAB, random_model
from tests.tiny import model_params, sample_params

END = VOCAB - 1
PROMPTS = [[], [3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1], [4, 4, 4, 4]]  # the third is longer than block_size


@pytest.fixture
def model():
    return random_model()


class Fixed(nn.Module):
    """A model that gives each next token the same probabilities, and notes what shapes it is asked about."""

    def __init__(self, probs: list[float]):
        super().__init__()
        self.params = model_params(architecture="rope")
        self.device = torch.device("cpu")
        self.head_weight = torch.tensor(probs).log()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, ids, last, cache):
        self.shapes.append(tuple(ids.shape))
        cache.advance(ids.size(1))
        return self.head_weight.expand(len(ids), last, -1)


@torch.no_grad()
def greedy_by_hand(model, prompt, n, penalty=1.0):
    """Without a cache; a classic model sees the last block_size tokens, a modern one looks back so far."""
    ids = [END, *prompt]
    penalize = RepetitionPenaltyLogitsProcessor(penalty)
    for _ in range(n):
        seen = ids[-BLOCK_SIZE:] if model.params.architecture == "gpt2" else ids
        logits = model(torch.tensor([seen]))[:, -1]
        ids.append(int(penalize(torch.tensor([ids]), logits).argmax()))
        if ids[-1] == END:
            return ids[1 + len(prompt) : -1]
    return ids[1 + len(prompt) :]


@pytest.mark.parametrize("name", MODELS)
def test_temperature_0_takes_the_likeliest_tokens_of_the_model_without_a_cache_past_block_size(name):
    model = random_model(**MODELS[name])
    with torch.no_grad():
        model.head_weight[END] *= 0.5  # so that not all texts are over at once
    expected = [[greedy_by_hand(model, prompt, 30)] * 2 for prompt in PROMPTS]
    assert max(len(texts[0]) for texts in expected) == 30
    params = sample_params(temperature=0.0, num_samples=2, max_new_tokens=30)
    assert generate(model, PROMPTS, params, END) == expected


@pytest.mark.parametrize("name", MODELS)
def test_the_penalty_counts_the_prompt_and_what_is_out_of_sight_as_in_transformers(name):
    model, params = random_model(**MODELS[name]), sample_params(temperature=0.0, repetition_penalty=1.5)
    expected = [[greedy_by_hand(model, prompt, 20, penalty=1.5)] * 3 for prompt in PROMPTS]
    assert generate(model, PROMPTS, params, END) == expected
    assert expected != generate(model, PROMPTS, sample_params(temperature=0.0), END)


def test_top_1_is_greedy_at_any_temperature(model):
    greedy = generate(model, [[3]], sample_params(temperature=0.0), END)
    assert generate(model, [[3]], sample_params(temperature=5.0, top_k=1), END) == greedy


def test_the_same_seed_writes_the_same_text_whatever_torch_drew_before(model):
    texts = []
    for seed in (1, 1, 2):
        texts.append(generate(model, [[3]], sample_params(seed=seed), END))
        torch.rand(7)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("name", MODELS)
def test_a_text_depends_on_its_prompt_and_number_alone_not_on_those_beside_it(name):
    model = random_model(**MODELS[name])
    together = generate(model, PROMPTS, sample_params(num_samples=20), END)
    assert len({len(text) for texts in together for text in texts}) > 5  # they left the batch at many times
    for prompt, texts in zip(PROMPTS, together, strict=True):
        assert generate(model, [prompt], sample_params(num_samples=3), END)[0] == texts[:3]


def test_samples_of_a_prompt_differ_and_are_not_those_of_the_next_seed(model):
    params = sample_params(num_samples=5)
    of_seeds = [generate(model, [[3]], params.model_copy(update={"seed": n}), END)[0] for n in (1, 2)]
    assert len({tuple(text) for texts in of_seeds for text in texts}) == 10


def test_top_k_never_leaves_the_likeliest_k():
    model = Fixed([0.1, 0.3, 0.05, 0.25, 0.3])
    for k, allowed in ((2, {1, 4}), (3, {1, 3, 4})):
        texts = generate(model, [[]], sample_params(num_samples=50, top_k=k), end_of_text=2)[0]
        assert {token for text in texts for token in text} == allowed


def test_a_text_ends_where_the_model_ends_it_and_the_others_go_on():
    n, end = 400, 0.25
    params = sample_params(num_samples=n, max_new_tokens=10)
    texts = generate(Fixed([1 - end, end]), [[]], params, end_of_text=1)[0]
    assert all(token == 0 for text in texts for token in text)
    for length in range(3):  # lengths follow the geometric distribution
        expected = n * end * (1 - end) ** length
        assert abs(sum(len(text) == length for text in texts) - expected) < 4 * math.sqrt(expected)
    full = n * (1 - end) ** 10
    assert abs(sum(len(text) == 10 for text in texts) - full) < 4 * math.sqrt(full)


def test_draws_have_the_frequencies_of_the_distribution():
    probs, n = [0.5, 0.25, 0.15, 0.1], 8000
    params = sample_params(num_samples=n // 4, max_new_tokens=4)
    texts = generate(Fixed([*probs, 0.0]), [[]], params, end_of_text=4)[0]
    drawn = [token for text in texts for token in text]
    assert len(drawn) == n
    chi_square = sum((drawn.count(i) - n * p) ** 2 / (n * p) for i, p in enumerate(probs))
    assert chi_square < 16.3  # 99.9 % of samples of 3 degrees of freedom


def test_prompts_but_their_last_tokens_take_one_pass_and_each_step_one_token_of_every_text():
    model = Fixed([1.0, 0.0])
    generate(model, [[0], [0, 0, 0]], sample_params(num_samples=5, max_new_tokens=4), end_of_text=1)
    assert model.shapes == [
        (2, 3),
        (10, 1),
        (10, 1),
        (10, 1),
        (10, 1),
    ]  # the end that texts follow is a token, too


def test_texts_that_have_ended_leave_once_they_are_a_good_part_of_those_on_their_way():
    model = Fixed([0.9, 0.1])
    params = sample_params(num_samples=MAX_SEQUENCES, max_new_tokens=1000)
    texts = generate(model, [[]], params, end_of_text=1)[0]
    n_rows = [shape[0] for shape in model.shapes]
    going_on = [sum(len(text) >= step for text in texts) for step in range(len(n_rows))]
    assert going_on[-1] > 0  # with the last text the work is over
    assert all(n - alive < max(EVICTION_FRACTION * n, 1) for n, alive in zip(n_rows, going_on, strict=True))
    kept = [n for n, _ in groupby(n_rows)]
    assert all(after <= (1 - EVICTION_FRACTION) * before for before, after in pairwise(kept))


def test_no_more_texts_are_on_their_way_at_once_than_fit_into_memory():
    model = Fixed([1.0, 0.0])
    params = sample_params(num_samples=MAX_SEQUENCES // 2 + 1, max_new_tokens=2)
    texts = generate(model, [[], [0], [0, 0]], params, end_of_text=1)
    assert texts == [[[0, 0]] * params.num_samples] * 3
    rest = 3 * params.num_samples - MAX_SEQUENCES
    assert model.shapes == [(2, 1), *[(MAX_SEQUENCES, 1)] * 2, (2, 2), *[(rest, 1)] * 2]


def test_a_stream_gives_each_step_of_all_texts_as_soon_as_it_is_there():
    model, params = random_model(), sample_params(num_samples=2, max_new_tokens=5)
    tokens = stream(model, [[3], [4, 4]], params, END)
    first = [next(tokens) for _ in range(4)]
    assert [(token.prompt, token.sample) for token in first] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert not torch.is_inference_mode_enabled()  # between two tokens, whoever reads them may train a model
    tokens = [*first, *tokens]
    for prompt, texts in enumerate(generate(model, [[3], [4, 4]], params, END)):
        for sample, text in enumerate(texts):
            ids = [token.id for token in tokens if token[:2] == (prompt, sample)]
            assert ids == text + [END] * (len(text) < 5)


def test_a_stream_that_is_not_read_on_works_no_further():
    model = Fixed([1.0, 0.0])
    tokens = stream(model, [[0]], sample_params(num_samples=1, max_new_tokens=1_000_000), end_of_text=1)
    assert [next(tokens) for _ in range(3)] == [StreamedToken(prompt=0, sample=0, id=0)] * 3
    tokens.close()
    assert model.shapes == [(1, 1)] * 4  # the prompt, and three steps
