"""A model with all it takes to train it on a device: one step, one look at the validation split."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slm.device import autocast, pick_dtype, setup_torch, should_compile
from slm.model.gpt import GPT, IGNORED, cross_entropy
from slm.model.params import ModelParams
from slm.training.batches import to_device, validation_batch, validation_windows
from slm.training.optimizer import build_optimizer
from slm.training.params import TrainParams


class Learner:
    """A new model, its optimizer, and the device and type of number they work with.

    Shapes: R rows in a step, B = batch_size of them at a time, T = block_size tokens in each.
    """

    def __init__(self, model_params: ModelParams, params: TrainParams, vocab_size: int):
        self.params = params
        self.device = setup_torch(params.deterministic)
        self.dtype = pick_dtype(params.dtype, self.device)
        torch.manual_seed(params.seed)
        self.model = GPT(model_params, vocab_size)  # drawn on the CPU: the same weights for every device
        self.model.to(self.device)
        self.optimizer = build_optimizer(self.model, params)
        # float16 cannot hold small numbers: the loss is scaled up, so that small gradients do not vanish.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.compiles = should_compile(params.compile, self.device)
        self.train_loss_sum = torch.compile(self.loss_sum) if self.compiles else self.loss_sum

    def loss_sum(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss in nats, summed over the targets (B, T)."""
        return cross_entropy(self.model(inputs), targets, reduction="sum")

    def step(self, inputs: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Take one step on R rows; give the mean loss and the gradient's norm, as scalars on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss = self.backward(inputs, targets)
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.params.grad_clip or math.inf)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, grad_norm

    def backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Add up the gradient of the mean loss over (R, T) targets, B rows at a time; give that loss."""
        self.model.train()
        n_targets = int((targets != IGNORED).sum())
        inputs, targets = to_device((inputs, targets), self.device)
        losses = []
        batch_size = self.params.batch_size
        for part in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            with autocast(self.device, self.dtype):
                loss = self.train_loss_sum(*part) / n_targets
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    @torch.no_grad()
    def validation_loss(self, tokens: np.ndarray) -> float:
        """Mean loss in nats over the same `eval_tokens` tokens each time.

        A window's first tokens have little context here, which makes the loss a bit higher than the sliding
        windows of the evaluation do, at a fraction of their cost.
        """
        self.model.eval()
        block_size = self.model.params.block_size
        windows = validation_windows(tokens, block_size, self.params.eval_tokens)
        sums, n_targets = [], 0
        for first in range(0, len(windows), self.params.batch_size):
            batch = validation_batch(tokens, block_size, windows[first : first + self.params.batch_size])
            n_targets += int((batch[1] != IGNORED).sum())
            batch = to_device(batch, self.device)
            with autocast(self.device, self.dtype):
                sums.append(self.loss_sum(*batch))  # not compiled: the last batch may be smaller
        return math.fsum(torch.stack(sums).tolist()) / n_targets

    def choices(self) -> dict[str, Any]:
        """What `auto` came to; it may change a result."""
        return {"dtype": str(self.dtype).removeprefix("torch."), "compile": self.compiles}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the next step depends on, beside the batch and the learning rate: tensors, plain values."""
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type != "cpu":
            tensors["random.device"] = torch.get_device_module(self.device).get_rng_state()
        return tensors, {"scaler": self.scaler.state_dict()}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go back to what `state` gave."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, i, name = key.split(".")
                moments.setdefault(int(i), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(values["scaler"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(tensors["random.device"])
