"""Tests of the benchmarks: the references equal this project's model, and times and losses are correct.

Set NANOGPT to a checkout of github.com/karpathy/nanoGPT to include its model.
"""

import os
import sys
from dataclasses import asdict
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
from benchmarks.exports import PROMPTS, Target, compare, export_to_targets
from benchmarks.generate import copy_weights
from benchmarks.race_table import read_log, table
from benchmarks.racing import Race, Run, Stopwatch, TimedSchedule, validation_loss
from benchmarks.references import (
    GPT2,
    ReferenceTrainer,
    Shape,
    nanogpt_batch,
    nanogpt_learning_rate,
    new_nanogpt,
)
from benchmarks.train_race import should_compile
from benchmarks.train_throughput import MODELS, flops_per_token, new_state
from slm.core.errors import UserError, run_command
from slm.core.files import append_line
from slm.generate.batch import generate
from slm.model.gpt import count_params, new_gpt
from slm.model.huggingface import to_weights
from slm.model.loss import cross_entropy
from slm.tokenizer.tokenizer import END_OF_TEXT
from slm.train.data import Batch
from slm.train.params import learning_rate
from tests.export_models import BLOCK_SIZE, random_model, small_tokenizer
from tests.tiny import model_params, sample_params, train_params

SHAPE = Shape(n_layer=2, n_head=3, n_embd=12, block_size=8, vocab_size=11)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [0, 10, 7, 7, 7, 2, 8, 1]])
BATCH = Batch(IDS, IDS, IDS.numel())


def randomize_and_copy(model, reference):
    """Set random weights in the model and copy them to all parameters of the reference."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    copy_weights(model, reference, transpose=isinstance(reference, GPT2LMHeadModel))
    assert {name for name, _ in reference.named_parameters()} <= to_weights(model).keys()


def test_gpt2_of_transformers_equals_gpt2():
    model, reference = new_gpt(model_params(bias=True), SHAPE.vocab_size), GPT2(SHAPE)
    assert count_params(model) == count_params(reference)
    randomize_and_copy(model, reference.gpt2)
    logits, loss = reference(IDS, IDS.flip(0))
    torch.testing.assert_close(logits, model(IDS))
    torch.testing.assert_close(loss, cross_entropy(model(IDS), IDS.flip(0)))


@pytest.mark.skipif("NANOGPT" not in os.environ, reason="set NANOGPT to a checkout of nanoGPT")
def test_nanogpt_equals_gpt2_without_biases_except_for_gelu():
    model = new_gpt(model_params(bias=False), SHAPE.vocab_size)
    reference = new_nanogpt(Path(os.environ["NANOGPT"]), SHAPE)
    # This project has the tanh approximation of GPT-2.
    for block in reference.transformer.h:
        block.mlp.gelu = nn.GELU("tanh")
    assert count_params(model) == count_params(reference)
    randomize_and_copy(model, reference)
    logits, loss = reference(IDS, IDS.flip(0))
    torch.testing.assert_close(logits, model(IDS))
    torch.testing.assert_close(loss, cross_entropy(model(IDS), IDS.flip(0)))


def test_new_nanogpt_without_a_checkout_names_its_repository(tmp_path):
    with pytest.raises(UserError, match=r"model\.py: no such file; run `git clone https://github"):
        new_nanogpt(tmp_path, SHAPE)


@torch.no_grad()
def test_compare_counts_equal_tokens_up_to_the_first_difference():
    tokenizer = small_tokenizer()
    model = random_model("gelu", tokenizer.get_vocab_size())
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)

    def generate_with_a_wrong_sixth_token(ids, n_new):
        params = sample_params(temperature=0.0, num_samples=1, max_new_tokens=n_new)
        [[new_ids]] = generate(model, [ids[1:]], params, end_of_text)
        return [*ids, *new_ids[:5], -1, *new_ids[6:]]

    target = Target("", lambda ids: model(torch.tensor([ids]))[0] + 0.25, generate_with_a_wrong_sixth_token)
    difference, deviation, equal = compare(model, tokenizer, target)
    assert (difference, float(deviation) > 0.3) == ("2.5e-01", True)
    n_equal, total = map(int, equal.split(" of "))
    assert n_equal == 5 * len(PROMPTS)
    assert n_equal < total < BLOCK_SIZE * len(PROMPTS)


@torch.no_grad()
def test_exported_model_has_equal_logits_in_transformers(tmp_path):
    tokenizer = small_tokenizer()
    model = random_model("gelu", tokenizer.get_vocab_size())
    target = export_to_targets(model, tokenizer, tmp_path / "models", tmp_path)[0]
    assert target.name == "NanoChatForCausalLM"
    difference, _, equal = compare(model, tokenizer, target)
    assert float(difference) < 1e-4
    assert len(set(equal.split(" of "))) == 1


def test_nanogpt_learning_rate_equals_the_cosine_schedule():
    params = train_params(max_steps=200, warmup_steps=10, learning_rate=0.01, min_lr=0.001)
    for step in range(201):
        assert nanogpt_learning_rate(step, 200, 0.01) == pytest.approx(learning_rate(step, params))


def test_nanogpt_batch_has_next_tokens_as_targets():
    tokens = np.arange(20, dtype=np.uint16)
    inputs, targets, _ = nanogpt_batch(tokens, 8, 100)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(8))
    assert set(inputs[:, 0].tolist()) == set(range(12))


def test_reference_trainer_lowers_the_loss():
    trainer = ReferenceTrainer("transformers", SHAPE, dtype="float32")
    before = trainer.step(BATCH, lr=0.01)
    for _ in range(20):
        after = trainer.step(BATCH, lr=0.01)
    assert after < before - 0.5
    assert trainer.logits(IDS).shape == (2, 8, 11)


def test_flops_per_token_omits_embeddings_that_are_no_head():
    # Matrices of two layers.
    blocks = 2 * 12 * 12**2
    attention = 12 * 2 * 12 * 8
    gpt2 = new_gpt(model_params(bias=False), 11)
    norms = 5 * 12
    assert flops_per_token(gpt2, SHAPE) == 6 * (blocks + norms + 11 * 12) + attention
    rope = new_gpt(model_params(architecture="rope", n_head=3, tie_embeddings=False), 11)
    assert flops_per_token(rope, SHAPE) == 6 * (count_params(rope) - 11 * 12) + attention
    assert flops_per_token(GPT2(SHAPE).gpt2, SHAPE) == 6 * (count_params(GPT2(SHAPE)) - 8 * 12) + attention


@pytest.mark.parametrize("architecture", filter(None, MODELS.values()))
def test_throughput_models_have_their_architecture(architecture):
    state = new_state(architecture, SHAPE, batch_size=2, dtype="float32", compiled=False)
    assert state.model.params.architecture == architecture


def test_stopwatch_does_not_count_pauses():
    times = iter([100.0, 103.0, 104.0, 154.0, 156.0])
    stopwatch = Stopwatch(lambda: next(times))
    assert stopwatch.seconds == 3.0
    # The pause lasts from 104 to 154.
    with stopwatch.paused():
        pass
    assert stopwatch.seconds == 6.0


def test_seconds_to_interpolates_between_evaluations():
    run = make_run("slm", [(0.0, 8.0), (10.0, 6.0), (20.0, 5.0), (30.0, 5.5), (40.0, 4.0)])
    assert run.seconds_to(8.5) == 0.0
    assert run.seconds_to(7.0) == 5.0
    assert run.seconds_to(5.25) == 17.5
    assert run.seconds_to(4.0) == 40.0
    assert run.seconds_to(3.9) is None


@pytest.mark.parametrize("step_seconds", [0.5, 1.0, 2.0])
def test_timed_schedule_ends_with_the_time(step_seconds):
    schedule, elapsed = TimedSchedule(0.01, seconds=300, step_seconds=1.0), 0.0
    rates = []
    while elapsed < 300:
        rates.append(schedule(len(rates), elapsed))
        # The first step compiles the model.
        elapsed += 40 if len(rates) == 1 else step_seconds
    n_steps = len(rates)
    assert n_steps == 1 + 260 / step_seconds
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    assert rates[-1] == pytest.approx(0.001, rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(0.05 * n_steps, abs=3)


def test_should_compile_compares_the_steps_in_the_time():
    # The eager model takes n steps in n seconds, the compiled one in 30.5 + n / 2.
    step_seconds = {False: (1.0, 1.0), True: (31.0, 0.5)}
    assert not should_compile(step_seconds, 60.0)
    assert should_compile(step_seconds, 62.0)


def test_train_counts_all_steps_but_no_evaluations(monkeypatch):
    now = 1000.0

    class Side:
        model, device, dtype = nn.Linear(2, 3), torch.device("cpu"), torch.float32
        steps = 0

        def step(self, batch, lr):
            nonlocal now
            now += 10.0 if self.steps == 0 else 1.0
            self.steps += 1

    def validation_loss(trainer, tokens, n_tokens):
        nonlocal now
        now += 100.0
        return 8.0 - trainer.steps

    monkeypatch.setattr(racing, "set_up", lambda run, race: (Side(), lambda step: BATCH))
    monkeypatch.setattr(racing, "open_bin", lambda tokens, split: None)
    monkeypatch.setattr(racing, "validation_loss", validation_loss)
    monkeypatch.setattr(racing, "Stopwatch", partial(Stopwatch, lambda: now))
    monkeypatch.setattr(racing, "N_EVALS", 4)
    race = Race("", Path(), Path(), None, seconds=16.0, batch_size=2, beta2=0.95, validation_tokens=0)
    run = racing.train(Run("nanogpt", "nanoGPT", 1, 0.01, True, ""), race, step_seconds=1.0)
    assert run.curve == ((0.0, 8.0), (10.0, 7.0), (11.0, 6.0), (12.0, 5.0), (16.0, 1.0))
    assert (run.seconds, run.tokens_seen, run.num_params) == (16.0, 7 * IDS.numel(), 9)


def test_validation_loss_is_the_mean_over_full_windows(monkeypatch):
    monkeypatch.setattr(racing, "CONTEXT", 8)
    trainer = ReferenceTrainer("transformers", SHAPE, dtype="float32")
    tokens = np.random.default_rng(0).integers(11, size=400).astype(np.uint16)
    ids = torch.from_numpy(tokens.astype(np.int64))
    windows = [(ids[i : i + 8], ids[i + 1 : i + 9]) for i in range(0, 8 * 20, 8)]
    expected = torch.stack([cross_entropy(trainer.logits(x[None]), y[None]) for x, y in windows]).mean()
    assert validation_loss(trainer, tokens, 8 * 20 + 7) == pytest.approx(expected.item(), rel=1e-5)


def make_run(implementation, curve, peak_lr=0.01, seed=1):
    """Return a finished run."""
    name = {"slm": "this project", "nanogpt": "nanoGPT"}[implementation]
    return Run(implementation, name, seed, peak_lr, False, "Equal.", "float32", 9, 900, curve)


NANOGPT_RUNS = [
    make_run("nanogpt", [(0.0, 8.0), (100.0, 4.0), (300.0, 3.5)], 0.001),
    make_run("nanogpt", [(0.0, 8.0), (100.0, 4.0), (300.0, 3.0)], 0.002),
]


def test_table_has_the_speedup_to_the_best_loss_of_nanogpt():
    slm_runs = [
        make_run("slm", [(0.0, 8.0), (100.0, 3.0)], seed=1),
        make_run("slm", [(0.0, 8.0), (50.0, 3.0)], seed=2),
    ]
    lines = table([*NANOGPT_RUNS, *slm_runs]).splitlines()
    assert lines[0].endswith("| seconds to 3.000 |")
    assert [line.split(" | ")[-1] for line in lines[2:6]] == ["100.0 |", "50.0 |", "not reached |", "300.0 |"]
    assert lines[-3].endswith("75.0 s on average, nanoGPT (learning rate 0.002) 300.0 s: **4.00 ×**")


def test_table_has_no_speedup_if_a_run_misses_the_target():
    slm_runs = [
        make_run("slm", [(0.0, 8.0), (100.0, 3.0)], seed=1),
        make_run("slm", [(0.0, 8.0), (900.0, 3.1)], seed=2),
    ]
    text = table([*NANOGPT_RUNS, *slm_runs])
    assert "| 900.0 | 3.1000 | not reached |" in text
    assert "1 of 2 runs do not reach it" in text
    assert "×" not in text


def test_read_log_rejects_different_conditions(tmp_path):
    log = tmp_path / "race.jsonl"
    for conditions in ("one", "other"):
        append_line(log, asdict(make_run("slm", [(1.0, 8.0)])) | {"conditions": conditions})
    with pytest.raises(UserError, match="different conditions"):
        read_log(log)


@pytest.fixture
def recipe_file(tmp_path):
    """Return a function that writes a params file with 200 steps: 10 of warm-up, 80 of decay."""

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
        ("sequence-length warm-up in 25% of the steps", 0.5, {"max_steps": 100, "seq_len_warmup_steps": 25}),
        ("cosine schedule", 0.5, {"schedule": "cosine", "warmup_steps": 5, "decay_steps": 0}),
        ("decay after the warm-up, no stable phase", 1.0, {"max_steps": 200, "decay_steps": 190}),
        ("decay after the warm-up, no stable phase", 0.5, {"max_steps": 100, "decay_steps": 95}),
        ("AdamW, learning rate × 0.3", 1.0, {"optimizer": "adamw", "learning_rate": 0.003}),
    ],
)
def test_variant_changes_and_scales_the_recipe(recipe_file, name, scale, expected):
    path = recipe_file()
    (model, train), (_, recipe) = variant(path, name, seed=3, scale=scale), variant(path, RECIPE, seed=3)
    assert model == model_params()
    params = train.model_dump()
    assert {key: params[key] for key in expected} == pytest.approx(expected)
    changed = set(ablations.SCALED_KEYS) | {"optimizer", "schedule", "learning_rate"}
    assert recipe.seed == 3
    assert all(params[key] == value for key, value in recipe.model_dump().items() if key not in changed)


def test_variant_of_the_model_keeps_the_train_params(recipe_file):
    path = recipe_file(architecture="rope", n_head=2)
    model, train = variant(path, "SwiGLU", seed=1)
    assert model == model_params(architecture="rope", n_head=2, activation="swiglu")
    assert train == variant(path, RECIPE, seed=1)[1]


def test_difference_is_the_mean_with_its_standard_error():
    recipe = [2.9, 3.2, 3.2]
    assert difference(recipe, recipe) == ""
    # The differences are 0.1, 0 and 0.2, so the standard error is 0.1 / √3.
    assert difference([3.0, 3.2, 3.4], recipe) == "+0.100 ± 0.058"
    # The differences are 0, -0.1 and -0.1.
    assert difference([2.9, 3.1, 3.1], recipe) == "-0.067 ± 0.033"


def test_ablations_reject_another_block_size(recipe_file, monkeypatch, capsys):
    path = recipe_file(block_size=128)
    monkeypatch.setattr(sys, "argv", ["ablations", "--tokens", "nowhere", "--params", str(path)])
    with pytest.raises(SystemExit):
        run_command(ablations.main)
    line = f"error: {path}: model.block_size: must be 256, the evaluation window, got 128"
    assert capsys.readouterr().err.startswith(line)
