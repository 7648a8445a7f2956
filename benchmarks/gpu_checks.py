"""Phase `correct` of the GPU validation (benchmarks/gpu.py)."""

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from benchmarks.gpu_settings import Context, SkippedError
from slm.core.errors import UserError
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.model import loss as loss_module
from slm.model.device import pick_device, pick_dtype, setup_torch, should_compile
from slm.model.gpt import GPT, new_gpt
from slm.model.params import ModelParams
from slm.tokenizer.bins import open_bin, read_meta
from slm.train.data import WindowBatches
from slm.train.params import TrainParams, learning_rate
from slm.train.state import TrainState
from slm.train.trainer import train_step, validation_loss

# The model of both phases. Small, so that the CPU is a quick reference, but with sizes that GPU kernels like.
MODEL = {"n_layer": 4, "n_head": 4, "n_kv_head": None, "n_embd": 128, "block_size": 128, "dropout": 0.0}
TRAIN = {"grad_accum_steps": 2, "learning_rate": 1e-3, "min_lr": 1e-4, "warmup_steps": 5, "decay_steps": 0}
TRAIN |= {"schedule": "cosine", "compile": False}
TRAIN_TOKENS, VALIDATION_TOKENS = 1_000_000, 20_000
# The reference is the CPU in float32. TF32 has the 10 mantissa bits of float16, bfloat16 has 7.
TOLERANCES = {"float32": 1e-3, "tf32": 0.01, "bfloat16": 0.03, "float16": 0.03}
# Muon's iteration computes in bfloat16 on every device.
MUON_TOLERANCE = 0.05
# Largest difference of the logits with and without a KV cache, in float32.
LOGIT_TOLERANCE = 1e-3
PROMPT_TOKENS = 5


class Losses(NamedTuple):
    """The training loss of each step and the validation loss after the last."""

    training: list[float]
    validation: float


def model_and_train_params(
    context: Context, architecture: str, max_steps: int, **changes: Any
) -> tuple[ModelParams, TrainParams]:
    """Return the params of the model and training of these phases."""
    values = context.params("quickstart")
    size = {"n_embd": 32, "block_size": 32} if context.is_cpu else {}
    model = ModelParams.check(values["model"] | MODEL | {"architecture": architecture} | size)
    settings = context.settings
    defaults = {"max_steps": max_steps, "batch_size": settings.correct_batch}
    defaults |= {"eval_interval": max(1, max_steps // 4), "eval_tokens": settings.eval_tokens}
    return model, TrainParams.check(values["train"] | TRAIN | defaults | changes)


def small_batches(context: Context, block_size: int, params: TrainParams) -> tuple[WindowBatches, int, int]:
    """Return batches of the first tokens of the corpus, the vocabulary size and the id of end of text."""
    folder = context.out / "corpus"
    meta = read_meta(folder)
    train_tokens = open_bin(folder, "train")[:TRAIN_TOKENS]
    validation_tokens = open_bin(folder, "validation")[:VALIDATION_TOKENS]
    batches = WindowBatches(train_tokens, validation_tokens, block_size, params)
    return batches, meta.vocab_size, meta.end_of_text


@contextmanager
def case(context: Context, check: str) -> Iterator[None]:
    """Record an error of one case, with its traceback in the log, and free memory for the next case."""
    try:
        yield
    except SkippedError as error:
        context.record(check, "skipped", reason=str(error))
    except Exception as error:
        traceback.print_exc()
        context.record(check, "FAILED", error=f"{type(error).__name__}: {error}"[:500])
    finally:
        gc.collect()
        torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def run_correct(context: Context) -> None:
    """Compare losses and text on this device with those of the CPU in float32."""
    device = setup_torch()
    check_chunked_loss(context, device)
    for architecture in ("gpt2", "rope"):
        reference: list[Losses] = []
        with case(context, f"{architecture}: CPU reference"), patch.dict(os.environ, SLM_DEVICE="cpu"):
            losses, model = train_losses(context, architecture, dtype="float32")
            reference.append(losses)
            context.record(f"{architecture}: CPU reference", **last(losses))
        if not reference:
            continue
        dtypes = (
            ["float32", "tf32", "bfloat16", "float16"] if device.type == "cuda" else ["float32", "bfloat16"]
        )
        for dtype in dtypes:
            check = f"{architecture}: {dtype} against CPU float32"
            with case(context, check):
                losses, model = train_losses(context, architecture, dtype)
                compare(context, check, losses, reference[0], TOLERANCES[dtype])
                if dtype == "float32":
                    check_text(context, architecture, model)
        # The default of the project: Muon, the fastest type, compiled if possible.
        with case(context, f"{architecture}: Muon"):
            with patch.dict(os.environ, SLM_DEVICE="cpu"):
                expected, _ = train_losses(context, architecture, "float32", optimizer="muon")
            losses, _ = train_losses(context, architecture, "auto", optimizer="muon")
            compare(
                context,
                f"{architecture}: Muon, dtype auto, against CPU float32",
                losses,
                expected,
                MUON_TOLERANCE,
            )
        check = f"{architecture}: compiled against eager, dtype auto"
        with case(context, check):
            if not should_compile("auto", device):
                raise SkippedError("torch.compile needs a GPU with Triton, and a C compiler")
            eager, _ = train_losses(context, architecture, "auto")
            compiled, _ = train_losses(context, architecture, "auto", compile=True)
            compare(context, check, compiled, eager, TOLERANCES["bfloat16"])


def check_chunked_loss(context: Context, device: torch.device) -> None:
    """Compare the gradient of the loss in chunks, compiled where possible, with that of the whole logits.

    The models of this phase are too small for chunks.
    """
    compiles = should_compile("auto", device)
    check = f"loss in chunks, {'compiled' if compiles else 'eager'}, against whole logits"
    with case(context, check):
        torch.manual_seed(0)
        x, weight = torch.randn(256, 64, device=device), torch.randn(2048, 64, device=device) / 8
        targets = torch.randint(len(weight), (len(x),), device=device)
        gradients = []
        for max_logits in (loss_module.MAX_LOGITS, 64 * len(weight)):
            loss = (
                torch.compile(loss_module.linear_cross_entropy)
                if compiles
                else loss_module.linear_cross_entropy
            )
            inputs = [tensor.clone().requires_grad_() for tensor in (x, weight)]
            with patch.object(loss_module, "MAX_LOGITS", max_logits):
                loss(*inputs, targets, "sum").backward()
            gradients.append([tensor.grad for tensor in inputs])
            torch.compiler.reset()
        errors = [float((b - a).norm() / a.norm()) for a, b in zip(*gradients, strict=True)]
        verdict = "ok" if all(error <= TOLERANCES["tf32"] for error in errors) else "FAILED"
        context.record(check, verdict, largest_difference=round(max(errors), 6), tolerance=TOLERANCES["tf32"])


def train_losses(
    context: Context, architecture: str, dtype: str, optimizer: str = "adamw", compile: bool = False
) -> tuple[Losses, GPT]:
    """Train the small model; return its losses and the model. `tf32` is float32 as the project sets it up."""
    steps = context.settings.correct_steps
    try:
        pick_dtype(dtype.replace("tf32", "float32"), pick_device())
    except UserError as error:
        raise SkippedError(str(error)) from error
    changes = {"dtype": dtype.replace("tf32", "float32"), "optimizer": optimizer, "compile": compile}
    model_params, params = model_and_train_params(context, architecture, steps, **changes)
    batches, vocab_size, _ = small_batches(context, model_params.block_size, params)
    state = TrainState(model_params, params, vocab_size)
    # `setup_torch` allows TF32, which would hide small errors.
    if dtype == "float32":
        torch.set_float32_matmul_precision("highest")
    losses = []
    for step in range(steps):
        loss, _ = train_step(state, batches.train_batch(step, state.device), learning_rate(step, params))
        losses.append(loss)
    validation = validation_loss(state, batches)
    return Losses(torch.stack(losses).float().tolist(), validation), state.model


def last(losses: Losses) -> dict[str, float]:
    """Return the losses of the last step, rounded for the record."""
    return {"train_loss": round(losses.training[-1], 5), "val_loss": round(losses.validation, 5)}


def compare(context: Context, check: str, losses: Losses, expected: Losses, tolerance: float) -> None:
    """Record both losses, and whether all training and validation losses are within `tolerance`."""
    pairs = [*zip(losses.training, expected.training, strict=True), (losses.validation, expected.validation)]
    # NaN is not below any tolerance.
    differences = [abs(a - b) for a, b in pairs]
    passed = all(difference <= tolerance for difference in differences)
    values = {**last(losses), **{f"expected_{name}": value for name, value in last(expected).items()}}
    context.record(
        check,
        "ok" if passed else "FAILED",
        **values,
        largest_difference=round(max(differences), 6),
        tolerance=tolerance,
    )


@torch.no_grad()
def check_text(context: Context, architecture: str, model: GPT) -> None:
    """Compare token losses with the CPU, and greedy text with a KV cache with logits without one."""
    # Imported here: only this check needs it.
    from slm.eval.perplexity import token_losses

    folder, model = context.out / "corpus", model.eval()
    end_of_text = read_meta(folder).end_of_text
    tokens = open_bin(folder, "validation")[:2000]
    loss = float(token_losses(model, tokens, end_of_text, None, 16).mean(dtype="float64"))
    on_cpu = new_gpt(model.params, model.vocab_size).eval()
    on_cpu.load_state_dict({name: weight.cpu() for name, weight in model.state_dict().items()})
    expected = float(token_losses(on_cpu, tokens, end_of_text, None, 16).mean(dtype="float64"))
    context.record(
        f"{architecture}: evaluation loss against CPU",
        "ok" if abs(loss - expected) <= TOLERANCES["float32"] else "FAILED",
        loss=round(loss, 6),
        expected_loss=round(expected, 6),
        tolerance=TOLERANCES["float32"],
    )

    # Each greedy token must have the highest logit of a forward pass without cache, except for rounding.
    prompt = tokens[:PROMPT_TOKENS].tolist()
    n_new = min(100, model.params.block_size - PROMPT_TOKENS - 1)
    values = context.params("quickstart")["sample"]
    greedy = {"temperature": 0.0, "num_samples": 1, "max_new_tokens": n_new, "top_k": None}
    [[new]] = generate(model, [prompt], SampleParams.check(values | greedy), end_of_text)
    ids = torch.tensor([[end_of_text, *prompt, *new]], device=model.device)
    logits = model(ids)[0, PROMPT_TOKENS:-1].float()  # (T, V)
    chosen = logits.gather(-1, torch.tensor(new, device=model.device)[:, None]).squeeze(-1)
    gap = float((logits.amax(-1) - chosen).max()) if new else 0.0
    context.record(
        f"{architecture}: greedy text with a KV cache against none",
        "ok" if new and gap <= LOGIT_TOLERANCE else "FAILED",
        tokens=len(new),
        equal_tokens=int((logits.argmax(-1).cpu() == torch.tensor(new)).sum()),
        largest_logit_gap=round(gap, 6),
        tolerance=LOGIT_TOLERANCE,
    )
