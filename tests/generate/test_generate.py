"""Generation of samples: `generate` and `stream`."""

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
# The third is longer than block_size.
PROMPTS = [[], [3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1], [4, 4, 4, 4]]


@pytest.fixture
def model():
    return random_model()


class ConstantModel(nn.Module):
    """A model with the same probabilities for each next token. It records the shapes of its inputs."""

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
def greedy_without_cache(model, prompt, n, penalty=1.0):
    """Generate n tokens without a cache. A gpt2 model gets the last block_size tokens only."""
    ids = [END, *prompt]
    penalize = RepetitionPenaltyLogitsProcessor(penalty)
    for _ in range(n):
        context = ids[-BLOCK_SIZE:] if model.params.architecture == "gpt2" else ids
        logits = model(torch.tensor([context]))[:, -1]
        ids.append(int(penalize(torch.tensor([ids]), logits).argmax()))
        if ids[-1] == END:
            return ids[1 + len(prompt) : -1]
    return ids[1 + len(prompt) :]


@pytest.mark.parametrize("name", MODELS)
def test_temperature_0_is_greedy_beyond_block_size(name):
    model = random_model(**MODELS[name])
    with torch.no_grad():
        # Make texts longer.
        model.head_weight[END] *= 0.5
    expected = [[greedy_without_cache(model, prompt, 30)] * 2 for prompt in PROMPTS]
    assert max(len(texts[0]) for texts in expected) == 30
    params = sample_params(temperature=0.0, num_samples=2, max_new_tokens=30)
    assert generate(model, PROMPTS, params, END) == expected


@pytest.mark.parametrize("name", MODELS)
def test_repetition_penalty_matches_transformers(name):
    model, params = random_model(**MODELS[name]), sample_params(temperature=0.0, repetition_penalty=1.5)
    expected = [[greedy_without_cache(model, prompt, 20, penalty=1.5)] * 3 for prompt in PROMPTS]
    assert generate(model, PROMPTS, params, END) == expected
    assert expected != generate(model, PROMPTS, sample_params(temperature=0.0), END)


def test_top_1_is_greedy_at_any_temperature(model):
    greedy = generate(model, [[3]], sample_params(temperature=0.0), END)
    assert generate(model, [[3]], sample_params(temperature=5.0, top_k=1), END) == greedy


def test_seed_determines_the_text_regardless_of_global_rng(model):
    texts = []
    for seed in (1, 1, 2):
        texts.append(generate(model, [[3]], sample_params(seed=seed), END))
        torch.rand(7)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("name", MODELS)
def test_text_is_independent_of_others_in_the_batch(name):
    model = random_model(**MODELS[name])
    batched = generate(model, PROMPTS, sample_params(num_samples=20), END)
    # They leave the batch at different steps.
    assert len({len(text) for texts in batched for text in texts}) > 5
    for prompt, texts in zip(PROMPTS, batched, strict=True):
        assert generate(model, [prompt], sample_params(num_samples=3), END)[0] == texts[:3]


def test_samples_differ_within_and_across_seeds(model):
    params = sample_params(num_samples=5)
    by_seed = [generate(model, [[3]], params.model_copy(update={"seed": n}), END)[0] for n in (1, 2)]
    assert len({tuple(text) for texts in by_seed for text in texts}) == 10


def test_top_k_samples_from_the_k_most_likely_tokens():
    model = ConstantModel([0.1, 0.3, 0.05, 0.25, 0.3])
    for k, allowed in ((2, {1, 4}), (3, {1, 3, 4})):
        texts = generate(model, [[]], sample_params(num_samples=50, top_k=k), end_of_text=2)[0]
        assert {token for text in texts for token in text} == allowed


def test_texts_end_independently_at_end_of_text():
    n, end = 400, 0.25
    params = sample_params(num_samples=n, max_new_tokens=10)
    texts = generate(ConstantModel([1 - end, end]), [[]], params, end_of_text=1)[0]
    assert all(token == 0 for text in texts for token in text)
    # Lengths follow the geometric distribution.
    for length in range(3):
        expected = n * end * (1 - end) ** length
        assert abs(sum(len(text) == length for text in texts) - expected) < 4 * math.sqrt(expected)
    full = n * (1 - end) ** 10
    assert abs(sum(len(text) == 10 for text in texts) - full) < 4 * math.sqrt(full)


def test_token_frequencies_match_probabilities():
    probs, n = [0.5, 0.25, 0.15, 0.1], 8000
    params = sample_params(num_samples=n // 4, max_new_tokens=4)
    texts = generate(ConstantModel([*probs, 0.0]), [[]], params, end_of_text=4)[0]
    tokens = [token for text in texts for token in text]
    assert len(tokens) == n
    chi_square = sum((tokens.count(i) - n * p) ** 2 / (n * p) for i, p in enumerate(probs))
    # The 99.9 % quantile for 3 degrees of freedom.
    assert chi_square < 16.3


def test_prefill_is_one_pass_and_each_step_one_token():
    model = ConstantModel([1.0, 0.0])
    generate(model, [[0], [0, 0, 0]], sample_params(num_samples=5, max_new_tokens=4), end_of_text=1)
    # Both prompts follow an end-of-text token.
    assert model.shapes == [(2, 3), *[(10, 1)] * 4]


def test_finished_sequences_are_evicted_at_the_fraction():
    model = ConstantModel([0.9, 0.1])
    params = sample_params(num_samples=MAX_SEQUENCES, max_new_tokens=1000)
    texts = generate(model, [[]], params, end_of_text=1)[0]
    batch_sizes = [shape[0] for shape in model.shapes]
    n_unfinished = [sum(len(text) >= step for text in texts) for step in range(len(batch_sizes))]
    # No step follows the end of the last text.
    assert n_unfinished[-1] > 0
    assert all(
        size - n < max(EVICTION_FRACTION * size, 1) for size, n in zip(batch_sizes, n_unfinished, strict=True)
    )
    distinct_sizes = [size for size, _ in groupby(batch_sizes)]
    assert all(after <= (1 - EVICTION_FRACTION) * before for before, after in pairwise(distinct_sizes))


def test_batch_size_is_at_most_max_sequences():
    model = ConstantModel([1.0, 0.0])
    params = sample_params(num_samples=MAX_SEQUENCES // 2 + 1, max_new_tokens=2)
    texts = generate(model, [[], [0], [0, 0]], params, end_of_text=1)
    assert texts == [[[0, 0]] * params.num_samples] * 3
    rest = 3 * params.num_samples - MAX_SEQUENCES
    assert model.shapes == [(2, 1), *[(MAX_SEQUENCES, 1)] * 2, (2, 2), *[(rest, 1)] * 2]


def test_stream_yields_all_sequences_step_by_step():
    model, params = random_model(), sample_params(num_samples=2, max_new_tokens=5)
    tokens = stream(model, [[3], [4, 4]], params, END)
    first = [next(tokens) for _ in range(4)]
    assert [(token.prompt, token.sample) for token in first] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # The consumer may train a model between two tokens.
    assert not torch.is_inference_mode_enabled()
    tokens = [*first, *tokens]
    for prompt, texts in enumerate(generate(model, [[3], [4, 4]], params, END)):
        for sample, text in enumerate(texts):
            ids = [token.id for token in tokens if token[:2] == (prompt, sample)]
            assert ids == text + [END] * (len(text) < 5)


def test_closed_stream_runs_no_further_steps():
    model = ConstantModel([1.0, 0.0])
    tokens = stream(model, [[0]], sample_params(num_samples=1, max_new_tokens=1_000_000), end_of_text=1)
    assert [next(tokens) for _ in range(3)] == [StreamedToken(prompt=0, sample=0, id=0)] * 3
    tokens.close()
    # The prompt, and three steps.
    assert model.shapes == [(1, 1)] * 4
