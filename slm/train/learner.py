"""A model with all it takes to train it on a device: one step, one look at the validation split."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from slm.model.device import autocast, keep_memory, pick_dtype, setup_torch, should_compile
from slm.model.gpt import IGNORED, cross_entropy, new_gpt
from slm.model.params import ModelParams
from slm.train.data import to_device
from slm.train.distributed import gathered, own_share, rank, sum_over_ranks
from slm.train.optimizer import build_optimizers
from slm.train.params import TrainParams


class Learner:
    """A new model, its optimizers, and the device and type of number they work with.

    Shapes: R rows in a step, B = batch_size of them at a time, T = block_size tokens in each.
    """

    def __init__(self, model_params: ModelParams, params: TrainParams, vocab_size: int):
        self.params = params
        self.device = setup_torch(params.deterministic)
        keep_memory()
        self.dtype = pick_dtype(params.dtype, self.device)
        torch.manual_seed(params.seed)
        self.model = new_gpt(model_params, vocab_size)  # drawn on the CPU: the same weights for every device
        self.model.to(self.device)
        if rank():
            torch.manual_seed(params.seed + rank())  # each process drops out others
        self.optimizers = build_optimizers(self.model, params)
        # float16 cannot hold small numbers: the loss is scaled up, so that small gradients do not vanish.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.compiles = should_compile(params.compile, self.device)
        self.train_loss_sum = torch.compile(self.loss_sum) if self.compiles else self.loss_sum

    def loss_sum(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss in nats, summed over the targets (B, T)."""
        return cross_entropy(self.model(inputs), targets, reduction="sum")

    def step(self, inputs: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Take one step on R rows; give the mean loss and the gradient's norm, as scalars on the device."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        loss = self.backward(inputs, targets)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.params.grad_clip or math.inf)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        return loss, grad_norm

    def backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Add up the gradient of the mean loss over (R, T) targets, B rows at a time; give that loss.

        Several processes share the R rows.
        """
        self.model.train()
        n_targets = int((targets != IGNORED).sum())
        inputs, targets = to_device((own_share(inputs), own_share(targets)), self.device)
        losses = []
        n_pieces = self.model.params.block_size // inputs.size(1)
        n_rows = self.params.batch_size * n_pieces  # B whole windows
        for part in zip(inputs.split(n_rows), targets.split(n_rows), strict=True):
            with autocast(self.device, self.dtype):
                loss = self.train_loss_sum(*part) / n_targets
            self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        mean = torch.stack(losses).sum()
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        sum_over_ranks([mean, *gradients])
        return mean

    @torch.no_grad()
    def validation_loss(self, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """Mean loss in nats over these inputs' targets (B, T), of which each process has its share.

        A window's first tokens have little context here, which makes the loss a bit higher than the sliding
        windows of the evaluation do, at a fraction of their cost.
        """
        self.model.eval()
        sums, n_targets = [], 0
        for batch in batches:
            n_targets += int((batch[1] != IGNORED).sum())
            batch = to_device(batch, self.device)
            with autocast(self.device, self.dtype):
                sums.append(self.loss_sum(*batch))  # not compiled: the last batch may be smaller
        own = math.fsum(torch.stack(sums).tolist()) if sums else 0.0
        losses, counts = zip(*gathered((own, n_targets)), strict=True)
        return math.fsum(losses) / sum(counts)

    def choices(self) -> dict[str, Any]:
        """What `auto` came to; it may change a result."""
        return {"dtype": str(self.dtype).removeprefix("torch."), "compile": self.compiles}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the next step depends on, beside the batch and the learning rate: tensors, plain values."""
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        for i, optimizer in enumerate(self.optimizers):
            for j, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{j}.{name}": tensor for name, tensor in moments.items()}
        for i, states in enumerate(gathered(self._random_states())):
            tensors |= {f"random.{i}.{name}": state for name, state in states.items()}
        return tensors, {"scaler": self.scaler.state_dict()}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go back to what `state` gave."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        for i, optimizer in enumerate(self.optimizers):
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                if key.startswith(f"optimizer.{i}."):
                    _, _, j, name = key.split(".")
                    moments.setdefault(int(j), {})[name] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(values["scaler"])
        torch.set_rng_state(tensors[f"random.{rank()}.cpu"])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(tensors[f"random.{rank()}.device"])

    def _random_states(self) -> dict[str, Tensor]:
        """Of this process."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            states["device"] = torch.get_device_module(self.device).get_rng_state()
        return states
