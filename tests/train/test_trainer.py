"""Tests of slm.train.trainer on tiny models."""

import numpy as np
import pytest
import torch

from slm.core.errors import UserError
from slm.core.files import write_rows
from slm.model.gpt import load_model
from slm.results.train import TrainPoint, ValidationPoint
from slm.train.data import Batch, WindowBatches
from slm.train.state import TrainState
from slm.train.trainer import backward, train, train_step, validation_loss
from tests.tiny import model_params, train_params

VOCAB = 16


def text(n: int, seed: int = 0) -> np.ndarray:
    """A text with something to learn: each token mostly follows the last by one rule."""
    random = np.random.default_rng(seed)
    tokens = [0]
    for _ in range(n - 1):
        tokens.append((tokens[-1] * 5 + 3) % VOCAB if random.random() < 0.8 else int(random.integers(VOCAB)))
    return np.array(tokens, dtype=np.uint16)


TRAIN, VALIDATION = text(2000), text(300, seed=1)


def windows(params, train_tokens=TRAIN, validation_tokens=VALIDATION, block_size=8):
    return WindowBatches(train_tokens, validation_tokens, block_size, params)


def run(out, train_tokens=TRAIN, validation_tokens=VALIDATION, **changes):
    params = train_params(**changes)
    return train(model_params(), params, windows(params, train_tokens, validation_tokens), VOCAB, out)


def test_train_overfits_one_batch(tmp_path):
    tokens = np.random.default_rng(0).permutation(VOCAB).astype(np.uint16)
    result = run(
        tmp_path, tokens, tokens, max_steps=300, warmup_steps=10, eval_interval=300, weight_decay=0.0
    )
    assert result.train_curve[0].train_loss > 1.5
    assert result.train_curve[-1].train_loss < 0.02


def test_curves_and_summary_are_consistent(tmp_path):
    result = run(tmp_path, max_steps=23, eval_interval=5, grad_accum_steps=2)
    assert [p.step for p in result.val_curve] == [0, 5, 10, 15, 20, 23]
    assert [p.step for p in result.train_curve] == list(range(1, 24))
    best = min(result.val_curve, key=lambda point: point.val_loss)
    summary = result.summary
    assert (summary.best_step, summary.best_val_loss) == (best.step, best.val_loss)
    assert summary.steps == 23
    assert summary.stopped_early is False
    assert result.metrics.tokens_seen == 23 * 2 * 4 * 8  # 250 windows an epoch, none with an overlap
    assert summary.epochs == pytest.approx(result.metrics.tokens_seen / 2000, abs=1e-4)
    assert result.metrics.num_params == sum(p.numel() for p in load_model(tmp_path).parameters())
    assert best.val_loss < result.val_curve[0].val_loss - 0.3


def test_train_curve_has_ten_points_per_evaluation(tmp_path):
    result = run(tmp_path, text(50), text(50), batch_size=1, max_steps=125, eval_interval=50)
    steps = [point.step for point in result.train_curve]
    assert steps == [*range(5, 126, 5)]


def test_best_weights_are_saved_rather_than_last(tmp_path):
    noise = np.random.default_rng(0).integers(VOCAB, size=64).astype(np.uint16)
    result = run(tmp_path, noise, VALIDATION, max_steps=60, eval_interval=5, learning_rate=0.02)
    losses = [point.val_loss for point in result.val_curve]
    assert min(losses) < losses[-1]
    assert result.summary.best_val_loss == min(losses)

    state = TrainState(model_params(), train_params(), VOCAB)
    state.model.load_state_dict(load_model(tmp_path).state_dict())
    assert validation_loss(state, windows(train_params())) == pytest.approx(min(losses), abs=1e-6)


def test_early_stopping_after_patience(tmp_path):
    noise = np.random.default_rng(0).integers(VOCAB, size=64).astype(np.uint16)
    result = run(tmp_path, noise, VALIDATION, max_steps=500, eval_interval=5, learning_rate=0.02, patience=3)
    losses = [point.val_loss for point in result.val_curve]
    assert result.summary.stopped_early is True
    assert result.summary.steps == result.summary.best_step + 3 * 5 < 500
    assert min(losses[-3:]) >= losses[-4] == min(losses)
    assert result.train_curve[-1].step == result.summary.steps


def test_gradient_accumulation_matches_full_batch():
    inputs = torch.randint(VOCAB, (8, 8), generator=torch.Generator().manual_seed(0))
    targets = inputs.roll(-1, 1)
    targets[0, :6] = targets[5, :3] = -1  # the parts differ in how many targets count
    whole, parts = (
        TrainState(model_params(), train_params(batch_size=b, grad_accum_steps=8 // b), VOCAB) for b in (8, 4)
    )
    losses = [backward(state, Batch(inputs, targets, int((targets != -1).sum()))) for state in (whole, parts)]
    torch.testing.assert_close(losses[0], losses[1])
    for (name, p), q in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_seq_len_warmup_keeps_tokens_per_step(tmp_path):
    whole, short = (
        run(tmp_path / str(n), max_steps=23, eval_interval=23, grad_accum_steps=2, seq_len_warmup_steps=n)
        for n in (0, 12)
    )
    assert [point.tokens for point in short.train_curve] == [point.tokens for point in whole.train_curve]
    assert short.train_curve[0].train_loss != whole.train_curve[0].train_loss
    assert short.summary.best_val_loss == pytest.approx(whole.summary.best_val_loss, abs=0.2)


def test_block_size_must_suit_seq_len_warmup():
    with pytest.raises(UserError, match=r"^model\.block_size: must be a multiple of 4 .*, got 6$"):
        windows(train_params(seq_len_warmup_steps=1), block_size=6)


def test_muon_with_rope_learns_faster_than_adamw_with_gpt2(tmp_path):
    modern = model_params(architecture="rope", n_head=2, n_embd=16)
    params = {"max_steps": 60, "eval_interval": 60}
    muon = train_params(optimizer="muon", **params)
    loss = train(modern, muon, windows(muon), VOCAB, tmp_path)
    assert loss.summary.best_val_loss < run(tmp_path, **params).summary.best_val_loss


def test_grad_norm_is_clipped_and_reported_unclipped():
    inputs = torch.randint(VOCAB, (4, 8), generator=torch.Generator().manual_seed(0))
    norms, weights = [], []
    for grad_clip in (0.0, 1e-9):  # far below AdamW's epsilon, so that a clipped step is hardly one
        state = TrainState(model_params(), train_params(grad_clip=grad_clip, weight_decay=0.0), VOCAB)
        before = state.model.token_embedding.weight.clone()
        norms.append(train_step(state, Batch(inputs, inputs, inputs.numel()), lr=0.01)[1])
        weights.append((state.model.token_embedding.weight - before).abs().max().item())
    torch.testing.assert_close(norms[0], norms[1])
    assert weights[0] == pytest.approx(0.01, rel=0.01)
    assert weights[1] < 0.002


def test_same_seed_gives_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(name))
        result = run(tmp_path / name, seed=seed)
        write_rows(tmp_path / name / "train.csv", TrainPoint, result.train_curve)
        write_rows(tmp_path / name / "val.csv", ValidationPoint, result.val_curve)
    for file in ("model.safetensors", "config.json", "train.csv", "val.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()


def test_validation_loss_is_mean_over_all_tokens():
    params = train_params(batch_size=3)
    state = TrainState(model_params(), params, VOCAB)
    tokens = text(29)  # 4 windows of 8, the last of which overlaps the first
    logs = []
    for start in range(0, 29, 8):
        window = [tokens[(start - 1 + i) % 29] for i in range(8)]
        logits = state.model(torch.tensor(np.array([window], dtype=np.int64)))[0].double()
        logs += [logits[i].log_softmax(-1)[int(tokens[start + i])].item() for i in range(min(8, 29 - start))]
    assert len(logs) == 29
    loss = validation_loss(state, windows(params, validation_tokens=tokens))
    assert loss == pytest.approx(-sum(logs) / 29, rel=1e-5)


@pytest.mark.parametrize(
    ("eval_interval", "place"), [(20, "step 2: the training"), (1, "step 1: the validation")]
)
def test_nan_loss_raises_and_writes_nothing(tmp_path, eval_interval, place):
    blows_up = {"learning_rate": 10.0, "min_lr": 10.0, "warmup_steps": 0, "weight_decay": 1e30}
    with pytest.raises(UserError, match=f"^{place} loss is nan; a lower learning_rate may help$"):
        run(tmp_path / "model", eval_interval=eval_interval, **blows_up)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["training", "validation"])
def test_empty_split_is_refused(tmp_path, name):
    empty = np.array([], dtype=np.uint16)
    splits = {"train_tokens": empty} if name == "training" else {"validation_tokens": empty}
    with pytest.raises(UserError, match=f"the {name} split is empty"):
        run(tmp_path, **splits)


def test_bfloat16_training_learns(tmp_path):
    result = run(tmp_path, dtype="bfloat16", max_steps=30)
    assert result.summary.dtype == "bfloat16"
    assert result.summary.best_val_loss < result.val_curve[0].val_loss - 0.3
    assert all(p.dtype == torch.float32 for p in load_model(tmp_path).parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_deterministic_gpu_gives_same_bytes(tmp_path, monkeypatch, dtype):
    monkeypatch.setenv("SLM_DEVICE", "cuda")
    for name in ("a", "b"):
        run(tmp_path / name, dtype=dtype, deterministic=True, max_steps=50)
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_losses_match_eager(tmp_path, dtype):
    plain, compiled = (run(tmp_path, dtype=dtype, compile=choice).train_curve for choice in (False, True))
    tolerance = 1e-4 if dtype == "float32" else 1e-2
    for a, b in zip(plain, compiled, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=tolerance)
