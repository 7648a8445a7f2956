"""The peers of the benchmarks compute what this project's model computes, and the race counts right.

Set NANOGPT to a checkout of github.com/karpathy/nanoGPT to compare with its model, too.
"""

import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import nn
from transformers import GPT2LMHeadModel

from benchmarks import ablations, racing
from benchmarks.ablations import RECIPE, difference, variant
from benchmarks.exports import PROMPTS, Target, compare
from benchmarks.generate import share_weights
from benchmarks.peers import GPT2, Peer, Shape, nanogpt, nanogpt_batch, nanogpt_rate
from benchmarks.race_table import read_log, table
from benchmarks.racing import Clock, FittedRate, Race, Run, validation_loss
from benchmarks.train_race import further
from benchmarks.train_throughput import flops_a_token
from slm.core.errors import UserError, run_command
from slm.generate.batch import generate
from slm.model.gpt import count_params, cross_entropy, new_gpt
from slm.model.huggingface import to_weights
from slm.tokenizer.tokenizer import END_OF_TEXT
from slm.train.params import learning_rate
from tests.exporting import BLOCK_SIZE, random_model, small_tokenizer
from tests.tiny import model_params, sample_params, train_params

SHAPE = Shape(n_layer=2, n_head=3, n_embd=12, block_size=8, vocab_size=11)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [0, 10, 7, 7, 7, 2, 8, 1]])


def copy_weights(model, peer):
    """Give the peer random weights of this project's model; its every parameter must be among them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    share_weights(model, peer, turned=isinstance(peer, GPT2LMHeadModel))
    assert {name for name, _ in peer.named_parameters()} <= to_weights(model).keys()


def test_gpt2_of_transformers_is_the_classic_model():
    model, peer = new_gpt(model_params(bias=True), SHAPE.vocab_size), GPT2(SHAPE)
    assert count_params(model) == count_params(peer)
    copy_weights(model, peer.gpt2)
    logits, loss = peer(IDS, IDS.flip(0))
    torch.testing.assert_close(logits, model(IDS))
    torch.testing.assert_close(loss, cross_entropy(model(IDS), IDS.flip(0)))


@pytest.mark.skipif("NANOGPT" not in os.environ, reason="set NANOGPT to a checkout of nanoGPT")
def test_nanogpt_is_the_classic_model_without_biases_and_with_the_exact_gelu():
    model = new_gpt(model_params(bias=False), SHAPE.vocab_size)
    peer = nanogpt(Path(os.environ["NANOGPT"]), SHAPE)
    for block in peer.transformer.h:
        block.mlp.gelu = nn.GELU("tanh")  # this project has GPT-2's approximation
    assert count_params(model) == count_params(peer)
    copy_weights(model, peer)
    logits, loss = peer(IDS, IDS.flip(0))
    torch.testing.assert_close(logits, model(IDS))
    torch.testing.assert_close(loss, cross_entropy(model(IDS), IDS.flip(0)))


def test_without_a_checkout_nanogpt_says_where_it_is_from(tmp_path):
    with pytest.raises(UserError, match=r"model\.py: no such file; git clone https://github"):
        nanogpt(tmp_path, SHAPE)


@torch.no_grad()
def test_an_export_is_compared_by_its_logits_and_up_to_the_first_token_that_differs():
    tokenizer = small_tokenizer()
    model = random_model("gelu", tokenizer.get_vocab_size())
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)

    def write_all_but_the_sixth(ids, n_new):
        params = sample_params(temperature=0.0, num_samples=1, max_new_tokens=n_new)
        [[story]] = generate(model, [ids[1:]], params, end_of_text)
        return [*ids, *story[:5], -1, *story[6:]]

    near = Target("", lambda ids: model(torch.tensor([ids]))[0] + 0.25, write_all_but_the_sixth)
    difference, spread, same = compare(model, tokenizer, near)
    assert (difference, float(spread) > 0.3) == ("2.5e-01", True)
    n_same, total = map(int, same.split(" of "))
    assert n_same == 5 * len(PROMPTS)
    assert n_same < total < BLOCK_SIZE * len(PROMPTS)


def test_the_learning_rate_of_nanogpt_is_that_of_this_project_with_the_same_numbers():
    params = train_params(max_steps=200, warmup_steps=10, learning_rate=0.01, min_lr=0.001)
    for step in range(201):
        assert nanogpt_rate(step, 200, 0.01) == pytest.approx(learning_rate(step, params))


def test_the_batches_of_nanogpt_are_windows_with_the_next_token_as_target():
    tokens = np.arange(20, dtype=np.uint16)
    inputs, targets = nanogpt_batch(tokens, 8, 100)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(8))
    assert set(inputs[:, 0].tolist()) == set(range(12))


def test_a_peer_learns_by_its_steps():
    peer = Peer("transformers", SHAPE, dtype="float32")
    before = peer.step((IDS, IDS), lr=0.01)
    for _ in range(20):
        after = peer.step((IDS, IDS), lr=0.01)
    assert after < before - 0.5
    assert peer.logits(IDS).shape == (2, 8, 11)


def test_flops_count_an_embedding_only_if_it_is_the_head():
    blocks = 2 * 12 * 12**2  # matrices of two layers
    attention = 12 * 2 * 12 * 8
    classic = new_gpt(model_params(bias=False), 11)
    norms = 5 * 12
    assert flops_a_token(classic, SHAPE) == 6 * (blocks + norms + 11 * 12) + attention
    modern = new_gpt(model_params(architecture="rope", n_head=3, tie_embeddings=False), 11)
    assert flops_a_token(modern, SHAPE) == 6 * (count_params(modern) - 11 * 12) + attention
    assert flops_a_token(GPT2(SHAPE).gpt2, SHAPE) == 6 * (count_params(GPT2(SHAPE)) - 8 * 12) + attention


def test_the_clock_stands_still_while_it_is_stopped():
    times = iter([100.0, 103.0, 104.0, 154.0, 156.0])
    clock = Clock(lambda: next(times))
    assert clock.seconds == 3.0
    with clock.stopped():  # from 104 to 154
        pass
    assert clock.seconds == 6.0


def test_a_loss_is_passed_on_the_line_between_two_points():
    run = a_run("ours", [(0.0, 8.0), (10.0, 6.0), (20.0, 5.0), (30.0, 5.5), (40.0, 4.0)])
    assert run.seconds_to(8.5) == 0.0
    assert run.seconds_to(7.0) == 5.0
    assert run.seconds_to(5.25) == 17.5
    assert run.seconds_to(4.0) == 40.0
    assert run.seconds_to(3.9) is None


@pytest.mark.parametrize("step_seconds", [0.5, 1.0, 2.0])
def test_the_cosine_of_a_peer_ends_with_its_time_however_long_compiling_takes_and_however_wrong_the_trial(
    step_seconds,
):
    fitted, elapsed = FittedRate(0.01, seconds=300, step_seconds=1.0), 0.0
    rates = []
    while elapsed < 300:
        rates.append(fitted(len(rates), elapsed))
        elapsed += 40 if len(rates) == 1 else step_seconds
    n_steps = len(rates)
    assert n_steps == 1 + 260 / step_seconds
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    assert rates[-1] == pytest.approx(0.001, rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(0.05 * n_steps, abs=3)


def test_the_side_that_takes_more_steps_in_the_time_is_chosen():
    trials = {False: (1.0, 1.0), True: (31.0, 0.5)}  # n steps in n seconds, or in 30.5 + n / 2
    assert not further(trials, 60.0)
    assert further(trials, 62.0)


def test_time_and_tokens_of_a_run_count_the_first_step_and_no_look_at_the_validation_split(monkeypatch):
    now = 1000.0

    class Side:
        model, device, dtype = nn.Linear(2, 3), torch.device("cpu"), torch.float32
        steps = 0

        def step(self, batch, lr):
            nonlocal now
            now += 10.0 if self.steps == 0 else 1.0
            self.steps += 1

    def look(side, tokens, n_tokens):
        nonlocal now
        now += 100.0
        return 8.0 - side.steps

    monkeypatch.setattr(racing, "enter", lambda run, race: (Side(), lambda step: (IDS, IDS)))
    monkeypatch.setattr(racing, "open_bin", lambda tokens, split: None)
    monkeypatch.setattr(racing, "validation_loss", look)
    monkeypatch.setattr(racing, "Clock", partial(Clock, lambda: now))
    monkeypatch.setattr(racing, "LOOKS", 4)
    race = Race("", Path(), Path(), None, seconds=16.0, batch_size=2, beta2=0.95, validation_tokens=0)
    run = racing.train(Run("nanogpt", "nanoGPT", 1, 0.01, True, ""), race, step_seconds=1.0)
    assert run.curve == ((0.0, 8.0), (10.0, 7.0), (11.0, 6.0), (12.0, 5.0), (16.0, 1.0))
    assert (run.seconds, run.tokens, run.parameters) == (16.0, 7 * IDS.numel(), 9)


def test_the_loss_is_the_mean_over_whole_windows_from_the_first_token(monkeypatch):
    monkeypatch.setattr(racing, "CONTEXT", 8)
    peer = Peer("transformers", SHAPE, dtype="float32")
    tokens = np.random.default_rng(0).integers(11, size=400).astype(np.uint16)
    ids = torch.from_numpy(tokens.astype(np.int64))
    rows = [(ids[i : i + 8], ids[i + 1 : i + 9]) for i in range(0, 8 * 20, 8)]
    expected = torch.stack([cross_entropy(peer.logits(x[None]), y[None]) for x, y in rows]).mean()
    assert validation_loss(peer, tokens, 8 * 20 + 7) == pytest.approx(expected.item(), rel=1e-5)


def a_run(side, curve, rate=0.01, seed=1):
    name = {"ours": "this project", "nanogpt": "nanoGPT"}[side]
    return Run(side, name, seed, rate, False, "Equal.", "float32", 9, 900, curve)


PEERS = [
    a_run("nanogpt", [(0.0, 8.0), (100.0, 4.0), (300.0, 3.5)], 0.001),
    a_run("nanogpt", [(0.0, 8.0), (100.0, 4.0), (300.0, 3.0)], 0.002),
]


def test_the_target_is_the_best_of_nanogpt_and_the_ratio_is_of_mean_times():
    ours = [
        a_run("ours", [(0.0, 8.0), (100.0, 3.0)], seed=1),
        a_run("ours", [(0.0, 8.0), (50.0, 3.0)], seed=2),
    ]
    lines = table([*PEERS, *ours]).splitlines()
    assert lines[0].endswith("| seconds to 3.000 |")
    assert [line.split(" | ")[-1] for line in lines[2:6]] == ["100.0 |", "50.0 |", "not reached |", "300.0 |"]
    assert lines[-3].endswith("75.0 s on average, nanoGPT (learning rate 0.002) 300.0 s: **4.00 ×**")


def test_a_run_that_does_not_reach_the_target_is_shown_and_there_is_no_ratio():
    ours = [
        a_run("ours", [(0.0, 8.0), (100.0, 3.0)], seed=1),
        a_run("ours", [(0.0, 8.0), (900.0, 3.1)], seed=2),
    ]
    text = table([*PEERS, *ours])
    assert "| 900.0 | 3.1000 | not reached |" in text
    assert "1 of 2 runs do not reach it" in text
    assert "×" not in text


def test_runs_of_other_conditions_are_not_compared(tmp_path):
    log = tmp_path / "race.jsonl"
    line = '{{"side": "ours", "name": "a", "seed": 1, "rate": 0.1, "compiled": false, "conditions": "{}"}}\n'
    log.write_text(line.format("one") + line.format("other"))
    with pytest.raises(UserError, match="different conditions"):
        read_log(log)


@pytest.fixture
def recipe_file(tmp_path):
    """Builds a file of params: 200 steps, 10 of them of warm-up, the last 80 of decay."""

    def build(**model) -> Path:
        train = {"max_steps": 200, "warmup_steps": 10, "schedule": "wsd", "decay_steps": 80}
        train |= {"optimizer": "muon", "learning_rate": 0.01, "seq_len_warmup_steps": 0}
        path = tmp_path / "recipe.yaml"
        sections = {"model": model_params(**model), "train": train_params(**train)}
        YAML().dump({name: section.model_dump() for name, section in sections.items()}, path)
        return path

    return build


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        (RECIPE, 1.0, {"max_steps": 200, "warmup_steps": 10, "decay_steps": 80, "seq_len_warmup_steps": 0}),
        (RECIPE, 1.5, {"max_steps": 300, "warmup_steps": 15, "decay_steps": 120, "learning_rate": 0.01}),
        ("a quarter of the steps with short windows", 0.5, {"max_steps": 100, "seq_len_warmup_steps": 25}),
        ("cosine", 0.5, {"schedule": "cosine", "warmup_steps": 5, "decay_steps": 0}),
        ("decay from the end of the warm-up", 1.0, {"max_steps": 200, "decay_steps": 190}),
        ("decay from the end of the warm-up", 0.5, {"max_steps": 100, "decay_steps": 95}),
        ("AdamW, 0.3 of the learning rate", 1.0, {"optimizer": "adamw", "learning_rate": 0.003}),
    ],
)
def test_a_variant_is_the_recipe_with_a_change_stretched_to_its_time(recipe_file, name, scale, expected):
    path = recipe_file()
    (model, train), (_, recipe) = variant(path, name, seed=3, scale=scale), variant(path, RECIPE, seed=3)
    assert model == model_params()
    found = train.model_dump()
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    stretched = set(ablations.SCALED) | {"optimizer", "schedule", "learning_rate"}
    assert recipe.seed == 3
    assert all(found[key] == value for key, value in recipe.model_dump().items() if key not in stretched)


def test_a_variant_of_the_model_keeps_the_training(recipe_file):
    path = recipe_file(architecture="rope", n_head=2)
    model, train = variant(path, "SwiGLU", seed=1)
    assert model == model_params(architecture="rope", n_head=2, activation="swiglu")
    assert train == variant(path, RECIPE, seed=1)[1]


def test_a_difference_is_the_mean_over_seeds_with_its_standard_error():
    recipe = [2.9, 3.2, 3.2]
    assert difference(recipe, recipe) == ""
    assert difference([3.0, 3.2, 3.4], recipe) == "+0.100 ± 0.058"  # of 0.1, 0 and 0.2: 0.1 / √3
    assert difference([2.9, 3.1, 3.1], recipe) == "-0.067 ± 0.033"  # of 0, -0.1 and -0.1


def test_an_ablation_in_another_context_than_losses_are_measured_in_is_refused(
    recipe_file, monkeypatch, capsys
):
    path = recipe_file(block_size=128)
    monkeypatch.setattr(sys, "argv", ["ablations", "--tokens", "nowhere", "--params", str(path)])
    with pytest.raises(SystemExit):
        run_command(ablations.main)
    line = f"error: {path}: model.block_size: must be 256, because losses"
    assert capsys.readouterr().err.startswith(line)
