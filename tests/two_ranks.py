"""Run two ranks for tests/train/test_distributed.py in the current folder: python -m tests.two_ranks"""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from slm.train.data import to_rank, training_batch
from slm.train.distributed import all_gather, broadcast_tensors, process_group, rank
from slm.train.state import TrainState
from slm.train.trainer import TrainResult, train, train_step
from tests.tiny import model_params, train_params
from tests.train.test_trainer import TRAIN, VOCAB, windows

ROPE = {"architecture": "rope", "n_embd": 24, "n_head": 3}
# The rows of a step are halved: 8, 4 of them at a time; 6, 3 at a time; 2 where one process has a part of 4.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "adamw": ({}, {"grad_accum_steps": 4}),
    "parts": ({}, {"batch_size": 3, "grad_accum_steps": 4, "eval_tokens": 20}),
    "muon": (ROPE, {"optimizer": "muon"}),
}


def trained(name: str) -> TrainResult:
    """Train one of the cases and write its model to a folder of that name."""
    model, changes = CASES[name]
    params = train_params(**changes)
    return train(model_params(**model), params, windows(params), VOCAB, Path(name))


def weights_of_each() -> list[str]:
    """Return digests of the weights on each rank, after steps with a different dropout mask on each."""
    params = train_params(batch_size=2, optimizer="muon")
    state = TrainState(model_params(**ROPE, dropout=0.3), params, VOCAB)
    for step in range(5):
        batch = to_rank(training_batch(TRAIN, 8, 4, seed=1, step=step), state.device)
        train_step(state, batch, lr=0.01)
    weights = [parameter.detach().numpy().tobytes() for parameter in state.model.parameters()]
    return all_gather(sha256(b"".join(weights)).hexdigest())


def main() -> None:
    with process_group(n_sequences=4, module="tests.two_ranks"):
        found: dict[str, Any] = {"weights": weights_of_each(), "random": all_gather(torch.rand(1).item())}
        found["sent"] = all_gather(broadcast_tensors({"a": torch.full((2, 3), 7.0)} if rank() == 0 else {}))
        found["sent"] = [
            {name: tensor.tolist() for name, tensor in tensors.items()} for tensors in found["sent"]
        ]
        for name in CASES:
            result = trained(name)
            losses = [point.train_loss for point in result.train_curve]
            norms = [point.grad_norm for point in result.train_curve]
            evals = [point.val_loss for point in result.val_curve]
            found[name] = all_gather([losses, norms, evals])
    if os.environ["RANK"] == "0":
        Path("found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
