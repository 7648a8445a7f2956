"""Print a walkthrough of the pipeline with one document: python -m tools.walkthrough > docs/walkthrough.md

Run it after `dvc repro`. It prints a Markdown page for docs/ whose numbers are computed from the files of the
pipeline. Each section of the page is a function in this module.

Shapes: T tokens of the document in one window, V = vocab_size.
"""

import hashlib
import math
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from slm.core.errors import UserError, run_command
from slm.data.documents import read_documents
from slm.eval.perplexity import summarize_losses
from slm.generate.batch import generate
from slm.generate.markdown import quote, table
from slm.generate.params import SampleParams
from slm.generate.sampling import next_token_probs
from slm.model.device import setup_torch
from slm.model.gpt import GPT, WEIGHTS, load_model, new_gpt
from slm.model.loss import cross_entropy
from slm.tokenizer.bins import open_bin, read_meta
from slm.tokenizer.tokenizer import decode, encode, load, tiktoken_encoding
from slm.train.data import Batch, training_batch, validation_batch
from slm.train.params import TrainParams, learning_rate
from slm.train.state import TrainState, build_optimizers
from slm.train.trainer import train_step

CORPUS, BINS, MODELS = Path("data/corpus"), Path("data/tokens"), Path("models")
# Minimum length of the document, and maximum length of its quotation, in characters.
MIN_LENGTH, MAX_QUOTATION = 200, 1_500
# Number of tokens in the table of tokens, of most probable tokens in a table, and of generated tokens.
N_ROWS, N_BEST, N_NEW = 12, 5, 60
VISIBLE = {" ": "·", "\n": "↵", "\t": "→"}


class Walk(NamedTuple):
    """The document, the model, and its output for the document."""

    tokenizer: Tokenizer
    vocabulary: list[bytes]
    model: GPT
    text: str
    # Tokens of the document in the bin, with end-of-text as the last, and the position of the first.
    ids: np.ndarray
    start: int
    inputs: Tensor  # (1, T)
    targets: Tensor  # (1, T)
    logits: Tensor  # (1, T, V)
    losses: Tensor  # (T,)


def main() -> None:
    """Print the page."""
    tokenizer = load(MODELS / "tokenizer.json")
    model = load_model(MODELS, setup_torch())
    vocabulary = tiktoken_encoding(tokenizer).decode_tokens_bytes(list(range(model.vocab_size)))
    text, ids, start = find_document(tokenizer)
    # validation_batch wraps around: the token before the first one is the end-of-text of this document.
    inputs, targets, _ = validation_batch(ids, min(len(ids), model.params.block_size), np.array([0]))
    with torch.inference_mode():
        logits = model(inputs.to(model.device)).cpu()
    losses = cross_entropy(logits, targets, reduction="none")
    walk = Walk(tokenizer, vocabulary, model, text, ids, start, inputs, targets, logits, losses)
    page = [introduction()]
    for number, (title, section) in enumerate(SECTIONS.items(), start=1):
        page.append(f"## {number}. {title}\n\n{section(walk)}")
    # Print the same bytes on every system.
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    print("\n\n".join(page))


def find_document(tokenizer: Tokenizer) -> tuple[str, np.ndarray, int]:
    """Return a validation document, its token ids, and the position of its first token in the bin.

    It is the shortest of the first documents with at least MIN_LENGTH characters, or else the longest. Raises
    UserError if the bin does not contain it.
    """
    texts = next(read_documents(CORPUS / "validation.parquet"))
    number = min(
        range(len(texts)), key=lambda i: (len(texts[i]) < MIN_LENGTH, abs(len(texts[i]) - MIN_LENGTH))
    )
    tokens, end_of_text = open_bin(BINS, "validation"), read_meta(BINS).end_of_text
    ends = [-1, *np.flatnonzero(tokens == end_of_text)[: number + 1].tolist()]
    start = ends[-2] + 1
    ids = tokens[start : ends[-1] + 1]
    if ids.tolist() != [*encode(tokenizer, texts[number]), end_of_text]:
        raise UserError(f"{BINS}: does not match {CORPUS}; run `dvc repro`")
    return texts[number], ids, start


def introduction() -> str:
    """Return the title, and the model that the page belongs to."""
    path = MODELS / WEIGHTS
    return f"""# One document through the pipeline

`python -m tools.walkthrough > docs/walkthrough.md` generated this page after `dvc repro`, with
`{path.as_posix()}` (md5 `{hashlib.md5(path.read_bytes()).hexdigest()}`). All numbers are computed from the
files of the pipeline. [Concepts](concepts.md) lists where each concept is implemented, and why."""


def text_section(walk: Walk) -> str:
    """Quote the document."""
    text = walk.text if len(walk.text) <= MAX_QUOTATION else f"{walk.text[:MAX_QUOTATION]} […]"
    return f"""A document of the validation split, which is not used for training.
{_link(read_documents)} reads it from `data/corpus/validation.parquet`.

{quote(text)}"""


def tokens_section(walk: Walk) -> str:
    """Show the first tokens, and their bytes in the bin."""
    ids, width = walk.ids[:-1].tolist(), walk.ids.itemsize
    n_bytes = len(walk.text.encode())
    rows = [[_code(walk, [i]), i, f"`{walk.vocabulary[i].hex(' ')}`"] for i in ids[:N_ROWS]]
    first = [f"`{i.tobytes().hex()}`" for i in walk.ids[:4]]
    return f"""{_link(encode)} encodes the text of {n_bytes:,} bytes as {len(ids):,} tokens from a vocabulary
of {len(walk.vocabulary):,}, {n_bytes / len(ids):.2f} bytes per token. {_link(decode)} is its inverse:
`decode(encode(text)) == text` is `{decode(walk.tokenizer, ids) == walk.text}`. The first tokens, with `·`
for a space and `↵` for a line break:

{table(["token", "id", "bytes"], rows)}

{_link(open_bin)} memory-maps `data/tokens/validation.bin`, an array of {walk.ids.dtype.name} ids in
little-endian order: {ids[0]} = 0x{ids[0]:0{2 * width}x} is stored as {first[0]}. This document starts
at token {walk.start:,} (byte {walk.start * width:,}) with {" ".join(first)}
and ends with {_code(walk, walk.ids[-1:])}."""


def batch_section(walk: Walk) -> str:
    """Show inputs and targets of the document, and the first training batch."""
    n_tokens, params = walk.inputs.size(1), TrainParams.load()
    text = "the document" if n_tokens == len(walk.ids) else f"the first {n_tokens:,} tokens of the document"
    columns = [[_code(walk, [i]) for i in ids[0]] for ids in (walk.inputs, walk.targets)]
    rows = list(zip(range(n_tokens), *columns, strict=True))
    n_windows, block_size = params.batch_size * params.grad_accum_steps, walk.model.params.block_size
    inputs, *_ = training_batch(open_bin(BINS, "train"), block_size, n_windows, params.seed, step=0)
    return f"""{_link(validation_batch)} returns inputs and targets for {text}, each of shape
{tuple(walk.inputs.shape)}. The target at each position is the next token, so the targets are the inputs
shifted by one:

{table(["position", "input", "target"], rows[:6] + rows[6:][-1:])}

In training, {_link(training_batch)} takes windows from the concatenated documents, at any position.
Its batch for step 0 has shape {tuple(inputs.shape)} and begins with
{_code(walk, inputs[0, :N_ROWS])}."""


def logits_section(walk: Walk) -> str:
    """Show the logits where the model is least certain."""
    probs = torch.softmax(walk.logits[0].double(), dim=-1)  # (T, V)
    # The model is least certain at the position of highest entropy.
    position = int(torch.special.entr(probs).sum(-1).argmax())
    logits, probs, target = walk.logits[0, position], probs[position], int(walk.targets[0, position])
    rows = [
        [_code(walk, [i]) + " ← target" * (i == target), f"{logits[i]:.2f}", f"{100 * probs[i]:.3g}%"]
        for i in dict.fromkeys([*probs.topk(N_BEST).indices.tolist(), target])
    ]
    return f"""{_link(GPT.forward)} returns a logit for each token of the vocabulary at each
position: shape {tuple(walk.logits.shape)}. A softmax converts them to probabilities of the next token. The
model is least certain at position {position}, after {_context(walk, position)}:

{table(["next token", "logit", "probability"], rows)}

Tokens more probable than the target: {int((probs > probs[target]).sum()):,}."""


def loss_section(walk: Walk) -> str:
    """Show losses of single tokens, and their summary."""
    losses, targets = walk.losses, walk.targets[0].tolist()
    # Choose positions at quantiles of the loss, and list them in the order of the text.
    by_loss, last = losses.argsort().tolist(), len(losses) - 1
    positions = sorted({by_loss[round(last * quantile)] for quantile in (0, 0.5, 0.8, 0.9, 0.95, 1)})
    rows = [
        [_context(walk, i), _code(walk, [targets[i]]), f"{math.exp(-losses[i]):.4g}", f"{losses[i]:.3f}"]
        for i in positions
    ]
    n_bytes = sum(len(walk.vocabulary[i]) for i in targets if i != walk.ids[-1])
    mean, perplexity, bits_per_byte = summarize_losses(losses.numpy(), n_bytes).values()
    n_tokens = len(losses)
    share = losses.topk(math.ceil(len(losses) / 10)).values.sum() / losses.sum()
    return f"""{_link(cross_entropy)} depends only on the probability p of the target: the loss is −ln p. The
tenth of the tokens with the highest loss contributes {share:.0%} of the sum. Tokens at quantiles of the
loss:

{table(["context", "target", "p", "−ln p"], rows)}

{_link(summarize_losses)} averages over the {n_tokens:,} tokens, which encode {n_bytes:,} bytes:

- mean loss: **{mean:.3f}** nats per token
- perplexity: exp {mean:.3f} = **{perplexity:,.2f}**, the number of equally likely tokens with the same loss
- bits per byte: {mean:.3f} · {n_tokens:,} / (ln 2 · {n_bytes:,}) = **{bits_per_byte:.3f}**"""


def step_section(walk: Walk) -> str:
    """Train a new model for one step on the document, in float32 and eager."""
    exact = TrainParams.load().model_copy(update={"dtype": "float32", "compile": False})
    state = TrainState(walk.model.params, exact, walk.model.vocab_size)
    weight, rate = state.model.head_weight, learning_rate(0, exact)
    weight_before, before = weight[0, 0].item(), _loss(state.model, walk)
    _, grad_norm = train_step(state, Batch(walk.inputs, walk.targets, walk.targets.numel()), rate)
    weight_after, after = weight[0, 0].item(), _loss(state.model, walk)
    clipping = f"before clipping to {exact.grad_clip:g}" if exact.grad_clip else "clipping is off"
    rows = [
        ["ln V, the loss of a uniform prediction", f"{math.log(walk.model.vocab_size):.4f}"],
        ["loss before the step", f"{before:.4f}"],
        [f"gradient norm ({clipping})", f"{grad_norm:.4g}"],
        ["learning rate at step 0", f"{rate:.4g}"],
        ["`head_weight[0, 0]`", f"{weight_before:.7f} → {weight_after:.7f}"],
        ["change of this weight", f"{weight_after - weight_before:.3g}"],
        ["loss after the step", f"{after:.4f}"],
        ["loss of the trained model", f"{walk.losses.mean():.4f}"],
    ]
    muon = " Muon updates the matrices of the blocks." if exact.optimizer == "muon" else ""
    return f"""A model with initial weights from {_link(new_gpt)} takes one {_link(train_step)} on this
document, with the {_link(learning_rate)} of step 0. The loss {"falls" if after < before else "rises"}
by {abs(before - after):.4f}. {_link(build_optimizers)} assigns the head to AdamW, which divides the gradient
by its running root mean square. In the first step only the sign remains, so each weight changes by about the
learning rate.{muon}

{table(["", "value"], rows)}"""


def sampling_section(walk: Walk) -> str:
    """Continue a prompt, and show the probabilities of its next token."""
    params = SampleParams.load()
    # End the prompt before the token with the highest loss, where the model has several options.
    at = int(walk.losses[:N_ROWS].argmax())
    prompt, end_of_text = walk.ids[:at].tolist(), int(walk.ids[-1])
    n_new = min(N_NEW, params.max_new_tokens)

    def continue_prompt(temperature: float) -> str:
        changes = {"temperature": temperature, "num_samples": 1, "max_new_tokens": n_new}
        new = generate(walk.model, [prompt], params.model_copy(update=changes), end_of_text)[0][0]
        return quote(decode(walk.tokenizer, [*prompt, *new]) + " […]" * (len(new) == n_new))

    # Show the effect of the temperature, then of the truncation.
    plain = {"top_k": None, "top_p": None, "min_p": None, "repetition_penalty": 1.0}
    steps = [params.model_copy(update=plain | {"temperature": 1.0}), params.model_copy(update=plain), params]
    settings = {step.describe(): step for step in steps}
    # Probabilities of shape (V,) for each of the settings.
    columns = [
        next_token_probs(walk.logits[:, at], walk.inputs[:, : at + 1], step)[0] for step in settings.values()
    ]
    best = columns[0].topk(N_BEST).indices
    rows = [[_code(walk, [i]), *(f"{100 * probs[i]:.3g}%" for probs in columns)] for i in best.tolist()]
    rows += [["all other tokens", *(f"{100 * probs.index_fill(0, best, 0).sum():.3g}%" for probs in columns)]]
    rows += [["tokens that can be sampled", *(f"{probs.count_nonzero():,}" for probs in columns)]]
    return f"""{_link(generate)} continues the prompt {_code(walk, walk.inputs[0, : at + 1])}: it
samples the next token, appends it and repeats. With greedy decoding:

{continue_prompt(0.0)}

At temperature {params.temperature:g}, with seed {params.seed}:

{continue_prompt(params.temperature)}

Before sampling, {_link(next_token_probs)} applies temperature and truncation to the probabilities. Those
of the first new token:

{table(["next token", *settings], rows)}"""


SECTIONS = {
    "Text": text_section,
    "Tokens": tokens_section,
    "Batch": batch_section,
    "Logits": logits_section,
    "Loss": loss_section,
    "Training step": step_section,
    "Sampling": sampling_section,
}


@torch.no_grad()
def _loss(model: GPT, walk: Walk) -> float:
    """Return the mean loss in nats per token, without dropout."""
    return cross_entropy(model.eval()(walk.inputs.to(model.device)).cpu(), walk.targets).item()


def _link(function: Any) -> str:
    """Return a Markdown link to the module of a function."""
    return f"[`{function.__qualname__}`](../{function.__module__.replace('.', '/')}.py)"


def _context(walk: Walk, position: int) -> str:
    """Return the last four input tokens at a position as code."""
    return _code(walk, walk.inputs[0, max(0, position - 3) : position + 1])


def _code(walk: Walk, ids: Any) -> str:
    """Return tokens as Markdown code with visible spaces, fenced by more backticks than they contain."""
    text = b"".join(walk.vocabulary[i] for i in ids).decode(errors="replace")
    text = "".join(VISIBLE.get(c, c if c.isprintable() else "�") for c in text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " * (text.startswith("`") or text.endswith("`"))
    return f"{fence}{pad}{text}{pad}{fence}"


if __name__ == "__main__":
    run_command(main)
