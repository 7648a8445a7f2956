"""AdamW, against its formulas."""

import torch

from slm.model.gpt import GPT
from slm.training.optimizer import build_optimizer
from tests.tiny import model_params, train_params

PARAMS = train_params(learning_rate=0.01, weight_decay=0.3, beta1=0.8, beta2=0.95)


def tiny() -> GPT:
    torch.manual_seed(0)
    return GPT(model_params(), vocab_size=10)


def test_matrices_decay_and_vectors_do_not():
    model = tiny()
    decay = {
        id(p): group["weight_decay"]
        for group in build_optimizer(model, PARAMS).param_groups
        for p in group["params"]
    }
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        is_vector = name.endswith("bias") or "norm" in name
        assert decay[id(parameter)] == (0.0 if is_vector else 0.3), name


def test_two_steps_are_those_of_the_formulas():
    model = tiny()
    optimizer = build_optimizer(model, PARAMS)
    expected = {name: p.detach().double() for name, p in model.named_parameters()}
    first = {name: torch.zeros_like(w) for name, w in expected.items()}
    second = {name: torch.zeros_like(w) for name, w in expected.items()}
    generator = torch.Generator().manual_seed(1)
    for t in (1, 2):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            grad = parameter.grad.double()
            first[name] = 0.8 * first[name] + 0.2 * grad
            second[name] = 0.95 * second[name] + 0.05 * grad**2
            decay = 0.0 if name.endswith("bias") or "norm" in name else 0.3
            expected[name] = expected[name] * (1 - 0.01 * decay)
            step = first[name] / (1 - 0.8**t) / ((second[name] / (1 - 0.95**t)).sqrt() + 1e-8)
            expected[name] = expected[name] - 0.01 * step
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.double(), expected[name], rtol=0, atol=1e-6)
