"""Tests of the key-value cache: logits are the same with and without it."""

import pytest
import torch

from slm.model.layers import KVCache
from tests.tiny import shaken

VOCAB, BLOCK_SIZE = 11, 8
GPT2_ = {"architecture": "gpt2"}
MODELS = {
    "gpt2": GPT2_,
    "rope": {"architecture": "rope"},
    "shared keys": {"architecture": "rope", "n_kv_head": 1},
    "swiglu, tied": {"architecture": "rope", "activation": "swiglu", "tie_embeddings": True},
}


def random_model(**changes):
    return shaken(VOCAB, block_size=BLOCK_SIZE, **changes)


@pytest.fixture(params=MODELS)
def model(request):
    return random_model(**MODELS[request.param])


def new_cache(model, padding):
    return KVCache(model.params, torch.tensor(padding), torch.float32)


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def in_chunks(model, ids, sizes):
    cache = new_cache(model, [0] * len(ids))
    return torch.cat([model(piece, cache=cache) for piece in ids.split(sizes, dim=1)], dim=1)


@pytest.mark.parametrize("sizes", [[1] * 8, [8], [3, 1, 4], [7, 1], [1, 7]])
@torch.no_grad()
def test_cached_logits_match_full_forward(model, sizes):
    ids = torch.randint(VOCAB, (2, 8))
    assert_same(in_chunks(model, ids, sizes), model(ids))


@pytest.mark.parametrize("sizes", [[1] * 40, [40], [5, 30, 5], [8, 1, 7, 1, 8, 9, 6], [20] + [1] * 20])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "gpt2"])
@torch.no_grad()
def test_cached_rope_matches_full_forward_past_block_size(name, sizes):
    model, ids = random_model(**MODELS[name]), torch.randint(VOCAB, (2, 40))
    assert_same(in_chunks(model, ids, sizes), model(ids))


@torch.no_grad()
def test_rope_ignores_tokens_outside_window():
    model, ids = random_model(architecture="rope", n_layer=1), torch.randint(VOCAB, (1, 40))
    last = in_chunks(model, ids, [1] * 40)[:, -1]
    assert_same(last, model(ids[:, -BLOCK_SIZE:])[:, -1])
    assert (last - model(ids[:, 1 - BLOCK_SIZE :])[:, -1]).abs().max() > 1e-3


@torch.no_grad()
def test_cache_size_is_bounded_by_window():
    model, sizes = random_model(architecture="rope"), []
    cache = new_cache(model, [0])
    for _ in range(10 * BLOCK_SIZE):
        model(torch.tensor([[1]]), cache=cache)
        sizes.append(cache._buffer.numel())
    assert max(sizes) == max(sizes[: 3 * BLOCK_SIZE])


@torch.no_grad()
def test_gpt2_refuses_context_longer_than_block_size():
    model = random_model(**GPT2_)
    cache = new_cache(model, [0, 3])
    model(torch.ones(2, 8, dtype=torch.long), cache=cache)
    with pytest.raises(ValueError, match="the context must be at most block_size = 8, got 9"):
        model(torch.ones(2, 1, dtype=torch.long), cache=cache)


@torch.no_grad()
def test_left_padding_does_not_change_logits(model):
    lengths, longest = [5, 1, 3], 5
    texts = [torch.randint(VOCAB, (1, n + 3)) for n in lengths]  # after the prompts, three tokens more
    cache = new_cache(model, [longest - n for n in lengths])
    prompts = [
        torch.nn.functional.pad(t[:, :n], (longest - n, 0)) for t, n in zip(texts, lengths, strict=True)
    ]
    logits = [model(torch.cat(prompts), last=1, cache=cache)]
    for i in range(3):
        new = [t[:, n + i : n + i + 1] for t, n in zip(texts, lengths, strict=True)]
        logits.append(model(torch.cat(new), cache=cache))
    for row, text in enumerate(texts):
        assert_same(torch.cat(logits, dim=1)[row], model(text)[0, -4:])


@torch.no_grad()
def test_left_padding_does_not_change_logits_past_block_size():
    model = random_model(architecture="rope")
    text, others = torch.randint(VOCAB, (1, 30)), torch.randint(VOCAB, (2, 12))
    others[1, -4:] = text[:, :4]
    cache = new_cache(model, [0, 8])
    logits = [model(others, last=1, cache=cache)]
    logits += [model(text[:, i : i + 1].expand(2, 1), cache=cache) for i in range(4, 30)]
    assert_same(torch.cat(logits, dim=1)[1], model(text)[0, 3:])


@torch.no_grad()
def test_select_repeats_drops_and_reorders_sequences(model):
    prompts, new = torch.randint(VOCAB, (3, 4)), torch.randint(VOCAB, (4, 2))
    prompts[1, 0] = 0
    cache = new_cache(model, [0, 1, 0])
    model(prompts, cache=cache)
    cache.select(torch.tensor([2, 1, 1, 2]))
    assert cache.length == 4
    logits = [model(new[:, :1], cache=cache)]
    cache.select(torch.tensor([2, 3]))
    logits = [logits[0][2:], model(new[2:, 1:], cache=cache)]
    expected = [
        model(torch.cat([prompts[1, 1:], new[2]])[None]),
        model(torch.cat([prompts[2], new[3]])[None]),
    ]
    assert_same(torch.cat(logits, dim=1), torch.cat([part[:, -2:] for part in expected]))
