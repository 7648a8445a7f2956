"""The state of a training run: model, optimizers, random generators, curves and best weights."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from slm.core.errors import UserError
from slm.model.device import keep_freed_memory, pick_dtype, setup_torch, should_compile
from slm.model.gpt import new_gpt
from slm.model.params import ModelParams
from slm.results.train import TrainPoint, ValidationPoint
from slm.train.distributed import all_gather, rank
from slm.train.params import TrainParams

MUON_MOMENTUM = 0.95
# Coefficients of Muon's Newton-Schulz iteration, which maximize its slope at 0.
MUON_A, MUON_B, MUON_C = 3.4445, -4.7750, 2.0315
MUON_ITERATIONS = 5


class TrainState:
    """Everything that a training step changes.

    `step` counts the steps done, `tokens` the targets in them. `unlogged` holds loss and gradient norm of the
    steps since the last point of the training curve.
    """

    def __init__(self, model_params: ModelParams, params: TrainParams, vocab_size: int):
        self.params = params
        self.device = setup_torch(params.deterministic)
        keep_freed_memory()
        self.dtype = pick_dtype(params.dtype, self.device)
        # Weights are initialized on the CPU, so that they are the same for every device.
        torch.manual_seed(params.seed)
        self.model = new_gpt(model_params, vocab_size).to(self.device)
        # Each rank has its own dropout masks.
        if rank():
            torch.manual_seed(params.seed + rank())
        self.optimizers = build_optimizers(self.model, params)
        # Small gradients would underflow in float16, so the loss is scaled up.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.compiles = should_compile(params.compile, self.device)
        self.train_loss_sum = torch.compile(self.loss_sum) if self.compiles else self.loss_sum

        self.step = 0
        self.tokens = 0
        self.train_curve: list[TrainPoint] = []
        self.val_curve: list[ValidationPoint] = []
        self.best_weights: dict[str, Tensor] = {}
        self.unlogged: list[Tensor] = []

    def loss_sum(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss in nats, summed over the targets (B, T)."""
        return self.model.loss(inputs, targets)

    def resolved(self) -> dict[str, Any]:
        """Return the values that `auto` resolved to; they can change the result."""
        return {"dtype": str(self.dtype).removeprefix("torch."), "compile": self.compiles}

    @property
    def best(self) -> ValidationPoint:
        """Return the first evaluation with the lowest loss."""
        return min(self.val_curve, key=lambda point: point.val_loss)

    @property
    def evals_since_best(self) -> int:
        """Return the number of evaluations after the best one."""
        return len(self.val_curve) - 1 - self.val_curve.index(self.best)

    def log_step(self, loss: Tensor, grad_norm: Tensor, n_tokens: int) -> None:
        """Count a step. Loss and gradient norm stay on the device: reading them would wait for it."""
        self.unlogged.append(torch.stack([loss, grad_norm]))
        self.step += 1
        self.tokens += n_tokens

    def log_train_point(self, learning_rate: float) -> None:
        """Add the unlogged steps to the training curve. Raises UserError if a loss is not finite."""
        losses, grad_norms = torch.stack(self.unlogged).T.tolist()
        for step, loss in enumerate(losses, start=self.step - len(losses) + 1):
            _check_finite("training", loss, step)
        self.train_curve.append(
            TrainPoint(
                step=self.step,
                tokens=self.tokens,
                train_loss=math.fsum(losses) / len(losses),
                learning_rate=learning_rate,
                grad_norm=grad_norms[-1],
            )
        )
        self.unlogged.clear()

    def log_eval(self, loss: float) -> None:
        """Add an evaluation; copy the weights if it is the best. Raises UserError for NaN or infinity."""
        _check_finite("validation", loss, self.step)
        self.val_curve.append(ValidationPoint(step=self.step, tokens=self.tokens, val_loss=loss))
        if self.best is self.val_curve[-1]:
            weights = self.model.state_dict()
            self.best_weights = {name: weight.to("cpu", copy=True) for name, weight in weights.items()}

    def is_finite(self) -> bool:
        """Return whether all weights and unlogged losses are finite; training cannot recover otherwise.

        Gradients may overflow in float16: the scaler skips such steps.
        """
        losses = [loss for loss, _ in self.unlogged]
        tensors = [*losses, *(parameter.detach() for parameter in self.model.parameters())]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and plain values from which training resumes exactly. All ranks must call it."""
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        for i, optimizer in enumerate(self.optimizers):
            for j, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{j}.{name}": tensor for name, tensor in moments.items()}
        for i, rng_states in enumerate(all_gather(self._rng_states())):
            tensors |= {f"rng.{i}.{name}": state for name, state in rng_states.items()}
        tensors |= {f"best.{name}": weight for name, weight in self.best_weights.items()}
        if self.unlogged:
            tensors["unlogged"] = torch.stack(self.unlogged)
        values = {
            "step": self.step,
            "tokens": self.tokens,
            "train_curve": [point.model_dump() for point in self.train_curve],
            "val_curve": [point.model_dump() for point in self.val_curve],
            "scaler": self.scaler.state_dict(),
        }
        return tensors, values

    def load_state_dict(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
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
        torch.set_rng_state(tensors[f"rng.{rank()}.cpu"])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(tensors[f"rng.{rank()}.device"])
        self.step, self.tokens = values["step"], values["tokens"]
        self.train_curve = [TrainPoint(**point) for point in values["train_curve"]]
        self.val_curve = [ValidationPoint(**point) for point in values["val_curve"]]
        best = {key: weight for key, weight in tensors.items() if key.startswith("best.")}
        self.best_weights = {key.removeprefix("best."): weight for key, weight in best.items()}
        self.unlogged = list(tensors["unlogged"].to(self.device)) if "unlogged" in tensors else []

    def _rng_states(self) -> dict[str, Tensor]:
        """Return the states of this rank's random generators."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            states["device"] = torch.get_device_module(self.device).get_rng_state()
        return states


def build_optimizers(model: nn.Module, params: TrainParams) -> list[Optimizer]:
    """Return optimizers that together update each parameter once; only matrices have weight decay.

    With `muon`, Muon (Jordan et al. 2024) updates the matrices of the blocks and AdamW (Loshchilov & Hutter
    2019) the embeddings, head and vectors. Muon's updates are scaled to the size of AdamW's, so that one
    learning rate suits both (Liu et al. 2025).
    """
    muon_params: list[nn.Parameter] = []
    # AdamW's parameters by weight decay.
    groups: dict[float, list[nn.Parameter]] = {params.weight_decay: [], 0.0: []}
    for name, parameter in model.named_parameters():
        if params.optimizer == "muon" and name.startswith("blocks.") and parameter.dim() == 2:
            muon_params.append(parameter)
        else:
            groups[params.weight_decay if parameter.dim() >= 2 else 0.0].append(parameter)

    optimizers: list[Optimizer] = [
        AdamW(
            [{"params": group, "weight_decay": decay} for decay, group in groups.items()],
            lr=params.learning_rate,
            betas=(params.beta1, params.beta2),
            fused=True,
        )
    ]
    if muon_params:
        optimizers.append(
            Muon(
                muon_params,
                lr=params.learning_rate,
                weight_decay=params.weight_decay,
                momentum=MUON_MOMENTUM,
            )
        )
    return optimizers


class Muon(Optimizer):
    """Muon (Jordan et al. 2024) on stacked matrices: a few large kernels instead of hundreds of small ones.

    The weights equal those of torch.optim.Muon with adjust_lr_fn="match_rms_adamw".
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                buffers = [self._momentum_buffer(parameter) for parameter in parameters]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                # Nesterov: look one momentum step ahead.
                torch._foreach_lerp_(gradients, buffers, group["momentum"])
                update = orthogonalize(torch.stack(gradients))
                # Updates get the size of AdamW's (Liu et al. 2025).
                lr = group["lr"] * 0.2 * max(shape) ** 0.5
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(update.unbind()), alpha=-lr)

    def _momentum_buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices (N, R, C) with the same singular vectors and singular values close to 1."""
    # The iteration tolerates rounding.
    x = matrices.bfloat16()
    is_tall = x.size(-2) > x.size(-1)
    if is_tall:
        x = x.mT
    # The iteration needs singular values of at most 1.
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(MUON_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=MUON_B, alpha=MUON_C), x, beta=MUON_A)
    return (x.mT if is_tall else x).to(matrices.dtype)


def _check_finite(name: str, loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise UserError(f"step {step}: the {name} loss is {loss}; a lower learning_rate may help")
