"""Continuous batching: sequences join and leave a batch between steps."""

from collections import defaultdict

import pytest
import torch

from slm.core.errors import UserError
from slm.generate.batch import Batch, Sequence, generate, new_rng
from tests.model.test_cache import MODELS, VOCAB, random_model
from tests.tiny import sample_params

END = VOCAB - 1
# The third is longer than block_size.
PROMPTS = [
    (),
    (3,),
    (1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1),
    (4, 4, 4, 4),
    (2, 7),
    (),
]


def sequence(prompt, n_top_logprobs=None, **changes):
    params = sample_params(**changes)
    return Sequence(tuple(prompt), params, new_rng(params.seed, 0), n_top_logprobs)


def generate_alone(model, prompt, **changes):
    """Generate the continuation of a prompt in a batch of its own."""
    return generate(model, [list(prompt)], sample_params(num_samples=1, **changes), END)[0][0]


def run_batch(batch, arrivals):
    """Return the token ids of each sequence without END; `arrivals` maps steps to joining sequences."""
    ids, step = defaultdict(list), 0
    while not batch.is_finished or step <= max(arrivals):
        if arriving := arrivals.get(step):
            batch.add(arriving)
        for token in batch.step():
            ids[token.sequence] += [token.id] * (token.id != END)
        step += 1
    return ids


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("schedule", [(0, 0, 3, 3, 9, 30), (0, 20, 21, 22, 23, 24), (0, 1, 1, 12, 12, 60)])
def test_joining_sequence_generates_the_same_tokens_as_alone(name, schedule):
    model = random_model(**MODELS[name])
    with torch.no_grad():
        # Make sequences longer, so that many overlap.
        model.head_weight[END] *= 0.5
    arrivals, sequences = defaultdict(list), []
    for seed, (step, prompt) in enumerate(zip(schedule, PROMPTS, strict=True)):
        sequences.append(sequence(prompt, seed=seed, max_new_tokens=25, temperature=0.5 + seed / 4))
        arrivals[step].append(sequences[-1])
    ids = run_batch(Batch(model, END), arrivals)
    for seed, joined in enumerate(sequences):
        changes = {"seed": seed, "max_new_tokens": 25, "temperature": 0.5 + seed / 4}
        assert ids[joined] == generate_alone(model, joined.prompt, **changes)


@pytest.mark.parametrize("name", ["gpt2", "rope"])
def test_aborted_sequence_leaves_others_unchanged(name):
    model = random_model(**MODELS[name])
    staying, leaving = (
        sequence((3,), max_new_tokens=12),
        sequence((1, 2, 3, 4, 5), temperature=0.0, max_new_tokens=10**6),
    )
    batch, ids = Batch(model, END), []
    batch.add([leaving, staying])
    for step in range(40):
        leaving.finished = leaving.finished or step == 3
        ids += [token.id for token in batch.step() if token.sequence is staying and token.id != END]
    assert leaving.n_generated <= 3
    assert ids == generate_alone(model, (3,), max_new_tokens=12)
    assert batch.is_finished
    assert batch.sequences == []


@torch.no_grad()
def test_memory_stays_bounded_while_sequences_come_and_go():
    model, sizes = random_model(architecture="rope"), []
    batch, passing = Batch(model, END), 0
    batch.add([sequence((), max_new_tokens=20, seed=n) for n in range(3)])
    for _ in range(300):
        batch.step()
        if len(batch.sequences) < 4:
            passing += 1
            batch.add([sequence((1, 2), max_new_tokens=30, seed=passing)])
        sizes.append(batch._cache.length + batch._cache._buffer.numel() + batch._ids.numel())
    assert passing > 20
    assert max(sizes[100:]) <= max(sizes[:100])


@torch.no_grad()
def test_logprobs_are_those_of_the_unmodified_distribution():
    model = random_model(architecture="rope")
    with_logprobs = sequence((3, 1), n_top_logprobs=3, temperature=5.0, top_k=4, max_new_tokens=6)
    without_logprobs = sequence((2,), max_new_tokens=6)
    batch, ids = Batch(model, END), [END, 3, 1]
    batch.add([without_logprobs, with_logprobs])
    while not with_logprobs.finished:
        for token in batch.step():
            if token.sequence is without_logprobs:
                assert (token.logprob, token.top_logprobs) == (None, [])
                continue
            expected = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
            assert token.logprob == pytest.approx(expected[token.id].item(), abs=1e-4)
            assert [number for number, _ in token.top_logprobs] == expected.topk(3).indices.tolist()
            assert [p for _, p in token.top_logprobs] == pytest.approx(
                expected.topk(3).values.tolist(), abs=1e-4
            )
            ids.append(token.id)


def test_step_rejects_nan_logits():
    model = random_model()
    with torch.no_grad():
        model.head_weight.fill_(float("nan"))
    batch = Batch(model, END)
    batch.add([sequence(())])
    with pytest.raises(UserError, match="the model's logits contain NaN or Inf"):
        batch.step()
