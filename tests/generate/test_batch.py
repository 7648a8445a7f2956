"""Texts that come and go while others are being written."""

from collections import defaultdict

import pytest
import torch

from slm.core.errors import UserError
from slm.generate.batch import Batch, Text, generate, new_random
from tests.model.test_cache import MODELS, VOCAB, random_model
from tests.tiny import sample_params

END = VOCAB - 1
PROMPTS = [
    (),
    (3,),
    (1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1),
    (4, 4, 4, 4),
    (2, 7),
    (),
]  # the third passes block_size


def text(prompt, n_alternatives=None, **changes):
    params = sample_params(**changes)
    return Text(tuple(prompt), params, new_random(params.seed, 0), n_alternatives)


def alone(model, prompt, **changes):
    """What is written of a text that has the model for itself."""
    return generate(model, [list(prompt)], sample_params(num_samples=1, **changes), END)[0][0]


def written(batch, arrivals):
    """The token ids of each text, END left out; a text joins before the step that it is given for."""
    ids, step = defaultdict(list), 0
    while not batch.is_over or step <= max(arrivals):
        if arriving := arrivals.get(step):
            batch.join(arriving)
        for token in batch.step():
            ids[token.text] += [token.id] * (token.id != END)
        step += 1
    return ids


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("schedule", [(0, 0, 3, 3, 9, 30), (0, 20, 21, 22, 23, 24), (0, 1, 1, 12, 12, 60)])
def test_a_text_that_joins_others_is_written_as_if_it_were_alone(name, schedule):
    model = random_model(**MODELS[name])
    with torch.no_grad():
        model.head_weight[END] *= 0.5  # so that many are on their way at once
    arrivals, texts = defaultdict(list), []
    for seed, (step, prompt) in enumerate(zip(schedule, PROMPTS, strict=True)):
        texts.append(text(prompt, seed=seed, max_new_tokens=25, temperature=0.5 + seed / 4))
        arrivals[step].append(texts[-1])
    found = written(Batch(model, END), arrivals)
    for seed, joined in enumerate(texts):
        how = {"seed": seed, "max_new_tokens": 25, "temperature": 0.5 + seed / 4}
        assert found[joined] == alone(model, joined.prompt, **how)


@pytest.mark.parametrize("name", ["classic", "modern"])
def test_a_text_that_is_given_up_leaves_and_the_others_do_not_notice(name):
    model = random_model(**MODELS[name])
    staying, leaving = (
        text((3,), max_new_tokens=12),
        text((1, 2, 3, 4, 5), temperature=0.0, max_new_tokens=10**6),
    )
    batch, ids = Batch(model, END), []
    batch.join([leaving, staying])
    for step in range(40):
        leaving.ended = leaving.ended or step == 3
        ids += [token.id for token in batch.step() if token.text is staying and token.id != END]
    assert leaving.n_written <= 3
    assert ids == alone(model, (3,), max_new_tokens=12)
    assert batch.is_over
    assert batch.texts == []


@torch.no_grad()
def test_a_text_without_end_that_others_pass_by_takes_no_more_and_more_memory():
    model, sizes = random_model(architecture="modern"), []
    batch, passing = Batch(model, END), 0
    batch.join([text((), max_new_tokens=20, seed=n) for n in range(3)])
    for _ in range(300):
        batch.step()
        if len(batch.texts) < 4:
            passing += 1
            batch.join([text((1, 2), max_new_tokens=30, seed=passing)])
        sizes.append(batch._cache.seen + batch._cache._kept.numel() + batch._ids.numel())
    assert passing > 20
    assert max(sizes[100:]) <= max(sizes[:100])


@torch.no_grad()
def test_probabilities_are_those_of_the_model_whatever_shapes_the_draw():
    model = random_model(architecture="modern")
    asking = text((3, 1), n_alternatives=3, temperature=5.0, top_k=4, max_new_tokens=6)
    silent = text((2,), max_new_tokens=6)
    batch, ids = Batch(model, END), [END, 3, 1]
    batch.join([silent, asking])
    while not asking.ended:
        for token in batch.step():
            if token.text is silent:
                assert (token.logprob, token.alternatives) == (None, [])
                continue
            expected = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
            assert token.logprob == pytest.approx(expected[token.id].item(), abs=1e-4)
            assert [number for number, _ in token.alternatives] == expected.topk(3).indices.tolist()
            assert [p for _, p in token.alternatives] == pytest.approx(
                expected.topk(3).values.tolist(), abs=1e-4
            )
            ids.append(token.id)


def test_logits_that_are_no_numbers_are_said_to_be():
    model = random_model()
    with torch.no_grad():
        model.head_weight.fill_(float("nan"))
    batch = Batch(model, END)
    batch.join([text(())])
    with pytest.raises(UserError, match="the model's logits are no numbers"):
        batch.step()
