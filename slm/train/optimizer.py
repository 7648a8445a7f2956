"""AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019), and Muon for matrices (Jordan et al. 2024)."""

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from slm.train.params import TrainParams

MOMENTUM = 0.95  # of Muon


def build_optimizers(model: nn.Module, params: TrainParams) -> list[Optimizer]:
    """The optimizers that together move every parameter once; weight decay is for matrices, not for vectors.

    Muon takes the matrices of the blocks, whose step it makes orthogonal: each direction is learnt as fast as
    any other. Embeddings, head and vectors are AdamW's. A step of Muon is scaled to the size of AdamW's, so
    that one learning rate suits both (Liu et al. 2025).
    """
    muons: list[nn.Parameter] = []
    groups: dict[float, list[nn.Parameter]] = {params.weight_decay: [], 0.0: []}  # AdamW's, by weight decay
    for name, parameter in model.named_parameters():
        if params.optimizer == "muon" and name.startswith("blocks.") and parameter.dim() == 2:
            muons.append(parameter)
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
    if muons:
        optimizers.append(
            Muon(
                muons,
                lr=params.learning_rate,
                weight_decay=params.weight_decay,
                momentum=MOMENTUM,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    _check_all_once(model, optimizers)
    return optimizers


def _check_all_once(model: nn.Module, optimizers: list[Optimizer]) -> None:
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    moved = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(moved) == sorted(map(id, model.parameters())), "a parameter in no group, or in two"
