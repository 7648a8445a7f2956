"""Supervised fine-tuning: targets, batches, and the stages sft and eval_sft."""

import csv
import json
import math
import signal

import pytest
import torch
from dvc.repo import Repo
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from slm.core.errors import UserError
from slm.eval.sft import answer_loss, answer_turns, converse, sampling_params
from slm.model.gpt import new_gpt
from slm.model.loss import IGNORE_INDEX
from slm.sft.conversations import Turn, render
from slm.sft.data import SFTBatches, load_batches, to_rows
from slm.sft.params import SFTParams, SFTRun, Task
from slm.tokenizer.tokenizer import END_OF_TEXT, encode, train_bpe
from slm.train.checkpoints import RunInputs
from slm.train.state import TrainState
from slm.train.trainer import train, validation_loss
from storygrammar.prompts.constraints import KINDS
from storygrammar.prompts.conversations import TASKS
from tests.pipeline import enter
from tests.project import TINY, clone, run_stages
from tests.tiny import SFT as ITEM
from tests.tiny import complaint, model_params, train_params
from tests.train.test_resume import signal_after

CPU = torch.device("cpu")

CONVERSATIONS = [
    [Turn("What is red?", "A rose."), Turn("And blue?", "The sky.")],
    [Turn("What is green?", "Grass.")],
    [Turn("What is white?", "Snow."), Turn("And black?", "Coal."), Turn("And gray?", "Fog.")],
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([render(conversation, conversation[0].answer) for conversation in CONVERSATIONS], 300)


def item(**changes) -> SFTRun:
    return SFTParams.check({"a": {**ITEM, **changes}})["a"]


def small_model(tokenizer, block_size=64):
    torch.manual_seed(0)
    params = model_params(architecture="rope", n_head=2, n_embd=32, block_size=block_size)
    return new_gpt(params, tokenizer.get_vocab_size()).eval()


def n_tokens(tokenizer, before, turn):
    return len(encode(tokenizer, render(before, turn.prompt) + turn.answer))


def test_targets_are_answers_and_their_end_of_text(tokenizer):
    inputs, targets = (part[0].tolist() for part in to_rows(CONVERSATIONS[:1], tokenizer, 64))
    end = tokenizer.token_to_id(END_OF_TEXT)
    first, second = encode(tokenizer, "> What is red?\n"), encode(tokenizer, "\n> And blue?\n")
    rose, sky = encode(tokenizer, "A rose."), encode(tokenizer, "The sky.")
    ids = [end, *first, *rose, *second, *sky]
    expected = [*[IGNORE_INDEX] * len(first), *rose, end, *[IGNORE_INDEX] * (len(second) - 1), *sky, end]
    assert len(ids) == len(expected)
    n_padding = 64 - len(ids)
    assert inputs == ids + [end] * n_padding
    assert targets == expected + [IGNORE_INDEX] * n_padding


@given(block_size=st.integers(2, 80))
def test_long_first_turn_is_truncated_and_later_ones_dropped(tokenizer, block_size):
    for conversation in CONVERSATIONS:
        sizes = [n_tokens(tokenizer, conversation[:n], turn) for n, turn in enumerate(conversation)]
        n_turns = max(1, sum(1 + size <= block_size for size in sizes))
        whole = [part[:, :block_size] for part in to_rows([conversation[:n_turns]], tokenizer, 100)]
        rows = to_rows([conversation], tokenizer, block_size)
        # The first prompt alone may be longer than block_size.
        if (whole[1] == IGNORE_INDEX).all():
            assert [len(part) for part in rows] == [0, 0]
        else:
            assert rows[0].equal(whole[0]) and rows[1].equal(whole[1])


@given(n=st.integers(1, 9), batch_size=st.integers(1, 9), seed=st.integers(0, 2**63 - 1))
def test_each_conversation_occurs_once_per_epoch(n, batch_size, seed):
    rows = torch.arange(n)[:, None]
    batches = SFTBatches((rows, rows), (rows, rows), train_params(batch_size=batch_size, seed=seed))
    seen = [row for step in range(3 * n) for row in batches.train_batch(step, CPU).inputs.flatten().tolist()]
    for first in range(0, 3 * n, n):
        assert sorted(seen[first : first + n]) == list(range(n))
    assert batches.train_batch(2, CPU).inputs.equal(
        torch.tensor(seen[2 * batch_size : 3 * batch_size])[:, None]
    )


def test_validation_covers_eval_tokens_targets(tokenizer):
    rows = to_rows(CONVERSATIONS, tokenizer, 64)
    counts = (rows[1] != IGNORE_INDEX).sum(1).tolist()
    for eval_tokens, n_rows in ((0, 3), (1, 1), (counts[0], 1), (counts[0] + 1, 2), (10**6, 3)):
        batches = SFTBatches(rows, rows, train_params(eval_tokens=eval_tokens, batch_size=2)).val_batches(CPU)
        assert torch.cat([batch.inputs for batch in batches]).equal(rows[0][:n_rows].long())


def test_answer_loss_is_the_mean_over_answer_tokens(tokenizer):
    model, rows = small_model(tokenizer), to_rows(CONVERSATIONS, tokenizer, 64)
    target_logprobs = []
    for inputs, targets in zip(*rows, strict=True):
        logprobs = model(inputs[None].long())[0].double().log_softmax(-1)
        target_logprobs += [
            logprobs[i, target].item() for i, target in enumerate(targets.tolist()) if target != IGNORE_INDEX
        ]
    params = train_params(batch_size=2)
    batches = SFTBatches(rows, rows, params)
    assert batches.targets_per_epoch == len(target_logprobs)
    assert answer_loss(model, *rows, batch_size=2) == pytest.approx(
        -sum(target_logprobs) / len(target_logprobs), rel=1e-5
    )
    state = TrainState(model.params, params, model.vocab_size)
    state.model.load_state_dict(model.state_dict())
    assert validation_loss(state, batches) == pytest.approx(
        -sum(target_logprobs) / len(target_logprobs), rel=1e-5
    )


def test_sft_starts_from_the_weights_and_learns_the_answers(tokenizer, tmp_path):
    model, rows = small_model(tokenizer), to_rows(CONVERSATIONS, tokenizer, 64)
    params = train_params(max_steps=150, batch_size=3, eval_interval=150, warmup_steps=5)
    result = train(
        model.params,
        params,
        SFTBatches(rows, rows, params),
        model.vocab_size,
        tmp_path,
        weights=model.state_dict(),
    )
    before = answer_loss(model, *rows, batch_size=3)
    assert result.val_curve[0].val_loss == pytest.approx(before, rel=1e-5)
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    sampling = sampling_params(64, temperature=0.0, seed=1)
    for answer in answer_turns(model, tokenizer, CONVERSATIONS, sampling):
        assert answer.text == answer.turn.answer
    prompts = [turn.prompt for turn in CONVERSATIONS[2]]
    assert converse(model, tokenizer, prompts, sampling) == [Turn(*turn[:2]) for turn in CONVERSATIONS[2]]


def test_sft_resume_is_bitwise_identical(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("SLM_CHECKPOINT_INTERVAL", "0")
    model, rows = small_model(tokenizer), to_rows(CONVERSATIONS, tokenizer, 64)
    params = train_params(max_steps=60, batch_size=2)

    def finetune(name):
        run = RunInputs(tmp_path / f"checkpoints-{name}", {"params": {"train": {}}})
        batches, weights = SFTBatches(rows, rows, params), model.state_dict()
        train(model.params, params, batches, model.vocab_size, tmp_path / name, run, weights)
        return (tmp_path / name / "model.safetensors").read_bytes()

    with (
        pytest.raises(KeyboardInterrupt),
        signal_after(20, tmp_path / "checkpoints-resumed", signal.SIGINT),
    ):
        finetune("resumed")
    assert finetune("resumed") == finetune("uninterrupted")


def test_answer_turns_skips_turns_beyond_block_size(tokenizer):
    answers = answer_turns(
        small_model(tokenizer, block_size=16), tokenizer, CONVERSATIONS, sampling_params(16, 0.0, 1)
    )
    assert 1 <= len(answers) < sum(map(len, CONVERSATIONS))
    assert all(n_tokens(tokenizer, answer.before, answer.turn) < 16 for answer in answers)


def test_train_params_keep_pretraining_values_but_the_schedule():
    params = item(max_steps=100, batch_size=7, seed=5).train_params(
        train_params(min_lr=0.01, seq_len_warmup_steps=3, patience=2, weight_decay=0.3, grad_accum_steps=4)
    )
    assert (params.max_steps, params.warmup_steps, params.decay_steps, params.min_lr) == (100, 5, 95, 0.0)
    assert (params.batch_size, params.grad_accum_steps, params.seed) == (7, 1, 5)
    assert (params.weight_decay, params.patience, params.seq_len_warmup_steps) == (0.3, 0, 0)


def test_task_names_are_those_of_the_grammar():
    assert set(Task.__args__) == set(TASKS)


@pytest.mark.parametrize(("values", "line"), [
    ({"a": {**ITEM, "steps": 3}}, "params.yaml: sft.a.steps: unknown key; must be one of file, tasks"),
    ({"a": {**ITEM, "tasks": {"sing": 1.0}}}, "params.yaml: sft.a.tasks.sing: must be 'story'"),
    ({"a": {**ITEM, "tasks": {}}}, "params.yaml: sft.a.tasks: must have at least 1 item, got {}"),
    ({"a": {**ITEM, "tasks": {"chat": 0.0}}}, "params.yaml: sft.a.tasks.chat: must be greater than 0"),
    ({"a b": ITEM}, "params.yaml: sft.a b: must match pattern"),
    ({"a": 3}, "params.yaml: sft.a: must be a mapping, got 3"),
])  # fmt: skip
def test_wrong_key_is_reported(values, line):
    assert complaint(SFTParams, values).startswith(line)


def test_file_is_split_by_prompt(tokenizer, tmp_path):
    path = tmp_path / "batches.jsonl"
    pairs = [{"prompt": f"What is {n % 50}?", "answer": f"{n}."} for n in range(200)]
    path.write_text("\n".join(map(json.dumps, pairs)))
    params = train_params(max_steps=100, batch_size=2)
    batches = load_batches(item(file=str(path), tasks=None, num_eval_prompts=100), params, tokenizer, 64)
    parts = [{tuple(row) for row in part.tolist()} for part in (batches._train[0], batches._validation[0])]
    assert not parts[0] & parts[1]
    assert len(batches._train[0]) + len(batches._validation[0]) == 200
    # 5 % of the 50 prompts are held out, each with 4 pairs.
    assert 1 <= len(batches._validation[0]) / 4 <= 8


@pytest.mark.parametrize(("n", "block_size", "what"), [(1, 64, "held-out"), (50, 4, "training")])
def test_empty_split_is_reported(tokenizer, tmp_path, n, block_size, what):
    path = tmp_path / "batches.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"What is {i}?", "answer": "It."}) for i in range(n)))
    line = f"^{path}: no {what} conversation fits: .* model.block_size, which is {block_size} tokens$"
    with pytest.raises(UserError, match=line):
        load_batches(item(file=str(path), tasks=None), train_params(), tokenizer, block_size)


PARAMS = {
    **TINY,
    "tokenizer": {"vocab_size": 1500},
    "model": {**TINY["model"], "block_size": 256},
    "sft": {"a": ITEM, "b": {**ITEM, "file": "batches.jsonl", "tasks": None}, "c": ITEM},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which models are tuned: `a` and `c` alike, `b` on pairs of its own."""
    folder = clone(tmp_path_factory.mktemp("project"), PARAMS)
    pairs = [{"prompt": f"Say {n}.", "answer": f"It is {n}."} for n in range(100)]
    (folder / "batches.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SLM_PROGRESS", "off")
        run_stages("download", "tokenize", "train")
        run_stages(*(f"sft@{name}" for name in "abc"), "eval_sft@a", "eval_sft@b")
    return folder


def test_stages_write_model_curves_and_answers(project):
    for name in "ab":
        reports = project / "reports/sft" / name
        weights = [load_file(project / "models" / folder / "model.safetensors") for folder in ("", name)]
        assert weights[0].keys() == weights[1].keys()
        assert any(not weights[0][key].equal(weights[1][key]) for key in weights[0])
        for curve in ("train", "val"):
            *_, last = csv.DictReader((reports / f"{curve}.csv").read_text().splitlines())
            assert last["step"] == "4"
        metrics = json.loads((reports / "eval.json").read_text())
        details = json.loads((project / f"models/{name}.eval.json").read_text())
        losses = metrics["val_loss"], details["base"]["val_loss"]
        assert all(map(math.isfinite, losses)) and losses[0] < losses[1]
        markdown = (project / f"reports/sft/{name}.md").read_text()
        assert ("Expected: It is" in markdown) == (name == "b")
        assert ("satisfied: " in markdown) == (name == "a")
        assert ("## Conversation 1" in markdown) == (name == "a")
    rows = list(csv.DictReader((project / "reports/sft/a/constraints.csv").read_text().splitlines()))
    kinds = {row["kind"] for row in rows}
    assert kinds & set(KINDS)
    assert kinds & {"summary", "question"}
    assert all(0 <= float(row[key]) <= 1 for row in rows for key in ("satisfied", "chance", "base_satisfied"))


def test_runs_with_equal_params_train_separately(project):
    a, c = (project / "models" / name / "model.safetensors" for name in "ac")
    assert a.read_bytes() == c.read_bytes()
    log = [json.loads(line) for line in (project / ".slm/log.jsonl").read_text().splitlines()]
    assert [entry["first_step"] for entry in log if entry["stage"].startswith("sft")][:3] == [0, 0, 0]


def test_rerun_of_a_finished_run_takes_no_step(project, monkeypatch):
    weights = project / "models/a/model.safetensors"
    before = weights.read_bytes()
    monkeypatch.chdir(project)
    monkeypatch.setenv("SLM_PROGRESS", "off")
    weights.unlink()
    run_stages("sft@a")
    assert weights.read_bytes() == before
    log = [json.loads(line) for line in (project / ".slm/log.jsonl").read_text().splitlines()]
    assert log[-1]["first_step"] == 4


@pytest.mark.slow
def test_dvc_repro_runs_sft_once(tmp_path, monkeypatch):
    enter(clone(tmp_path, PARAMS), monkeypatch)
    with Repo() as repo:
        names = [stage.name for stage in repo.reproduce(targets=["eval_sft@a"])]
        assert names == ["download", "tokenize", "train", "sft@a", "eval_sft@a"]
        assert repo.reproduce(targets=["eval_sft@a"]) == []
