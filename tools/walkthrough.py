"""One story on its way through the pipeline: python -m tools.walkthrough > docs/walkthrough.md

Run it in a folder where `dvc repro` has run. It prints a page of Markdown, meant to lie in docs/, in which
every number is computed from the pipeline's own files. Each section of the page is a function here.

Shapes: T tokens of the story in one window, V = vocab_size.
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
from slm.core.markdown import quote, table
from slm.data.documents import read_documents
from slm.eval.perplexity import summarize_losses
from slm.generate.batch import generate
from slm.generate.params import SampleParams
from slm.generate.sampling import next_token_probs
from slm.model.device import setup_torch
from slm.model.gpt import GPT, WEIGHTS, cross_entropy, load_model, new_gpt
from slm.tokenizer.bins import open_bin, read_meta
from slm.tokenizer.tokenizer import decode, encode, load, tiktoken_encoding
from slm.train.data import training_batch, validation_batch
from slm.train.params import TrainParams, learning_rate
from slm.train.state import TrainState, build_optimizers
from slm.train.trainer import train_step

CORPUS, BINS, MODELS = Path("data/corpus"), Path("data/tokens"), Path("models")
LENGTH, SHOWN = 200, 1_500  # characters: that the story should have, and that are shown of a long one
N_ROWS, N_BEST, N_NEW = 12, 5, 60  # tokens: of the story in a table, likeliest in a table, written
VISIBLE = {" ": "·", "\n": "↵", "\t": "→"}


class Walk(NamedTuple):
    """The story, the model, and what the model makes of the story."""

    tokenizer: Tokenizer
    vocabulary: list[bytes]
    model: GPT
    text: str
    ids: np.ndarray  # the story's tokens in the bin; end-of-text is the last
    start: int  # how many tokens lie before them in the bin
    inputs: Tensor  # (1, T)
    targets: Tensor  # (1, T)
    logits: Tensor  # (1, T, V)
    losses: Tensor  # (T,)


def main() -> None:
    tokenizer = load(MODELS / "tokenizer.json")
    model = load_model(MODELS, setup_torch())
    vocabulary = tiktoken_encoding(tokenizer).decode_tokens_bytes(list(range(model.vocab_size)))
    text, ids, start = find_story(tokenizer)
    # On a ring that is this text alone, the token before the first is the end-of-text.
    inputs, targets = validation_batch(ids, min(len(ids), model.params.block_size), np.array([0]))
    with torch.inference_mode():
        logits = model(inputs.to(model.device)).cpu()
    losses = cross_entropy(logits, targets, reduction="none")
    walk = Walk(tokenizer, vocabulary, model, text, ids, start, inputs, targets, logits, losses)
    page = [introduction()]
    for number, (title, section) in enumerate(SECTIONS.items(), start=1):
        page.append(f"## {number}. {title}\n\n{section(walk)}")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # the same bytes on every system
    print("\n\n".join(page))


def find_story(tokenizer: Tokenizer) -> tuple[str, np.ndarray, int]:
    """The shortest of the first validation texts that has LENGTH characters, or else the longest."""
    texts = next(read_documents(CORPUS / "validation.parquet"))
    number = min(range(len(texts)), key=lambda i: (len(texts[i]) < LENGTH, abs(len(texts[i]) - LENGTH)))
    tokens, end_of_text = open_bin(BINS, "validation"), read_meta(BINS).end_of_text
    ends = [-1, *np.flatnonzero(tokens == end_of_text)[: number + 1].tolist()]
    start = ends[-2] + 1
    ids = tokens[start : ends[-1] + 1]
    if ids.tolist() != [*encode(tokenizer, texts[number]), end_of_text]:
        raise UserError(f"{BINS}: not made of {CORPUS}; `dvc repro` makes it anew")
    return texts[number], ids, start


def introduction() -> str:
    path = MODELS / WEIGHTS
    return f"""# One story through the pipeline

Made from `{path.as_posix()}` (md5 `{hashlib.md5(path.read_bytes()).hexdigest()}`) by
`python -m tools.walkthrough > docs/walkthrough.md`, in a folder where `dvc repro` has run. Every number was
computed from the pipeline's own files. [The concepts](concepts.md) says where each idea lives, and why."""


def the_text(walk: Walk) -> str:
    shown = walk.text if len(walk.text) <= SHOWN else f"{walk.text[:SHOWN]} […]"
    return f"""A text of the validation split, on which the model is not trained.
{_link(read_documents)} reads it from `data/corpus/validation.parquet`.

{quote(shown)}"""


def the_tokens(walk: Walk) -> str:
    ids, width = walk.ids[:-1].tolist(), walk.ids.itemsize
    n_bytes = len(walk.text.encode())
    rows = [[_piece(walk, [i]), i, f"`{walk.vocabulary[i].hex(' ')}`"] for i in ids[:N_ROWS]]
    first = [f"`{i.tobytes().hex()}`" for i in walk.ids[:4]]
    return f"""{_link(encode)} cuts the text, {n_bytes:,} bytes, into {len(ids):,} tokens of a vocabulary of
{len(walk.vocabulary):,}: {n_bytes / len(ids):.2f} bytes a token. {_link(decode)} takes them back to the text:
`decode(encode(text)) == text` is `{decode(walk.tokenizer, ids) == walk.text}`. The first of them, with `·`
for a space and `↵` for a new line:

{table(["piece", "id", "bytes"], rows)}

{_link(open_bin)} maps `data/tokens/validation.bin` into memory: ids of {width} bytes ({walk.ids.dtype.name}),
the low byte first, so that {ids[0]} = 0x{ids[0]:0{2 * width}x} is {first[0]}. This text is there
from token {walk.start:,} on (byte {walk.start * width:,}), beginning {" ".join(first)}
and ending with {_piece(walk, walk.ids[-1:])}."""


def the_batch(walk: Walk) -> str:
    n_tokens, params = walk.inputs.size(1), TrainParams.load()
    story = "the text" if n_tokens == len(walk.ids) else f"the text's first {n_tokens:,} tokens"
    columns = [[_piece(walk, [i]) for i in ids[0]] for ids in (walk.inputs, walk.targets)]
    rows = list(zip(range(n_tokens), *columns, strict=True))
    n_windows, block_size = params.batch_size * params.grad_accum_steps, walk.model.params.block_size
    inputs, _ = training_batch(open_bin(BINS, "train"), block_size, n_windows, params.seed, step=0)
    return f"""{_link(validation_batch)} makes {story} inputs and targets, each of shape
{tuple(walk.inputs.shape)}. The target of each position is the token that follows, so the targets are the
inputs moved by one:

{table(["position", "input", "target"], rows[:6] + rows[6:][-1:])}

In training, {_link(training_batch)} cuts windows out of all the texts laid end to end, wherever they fall.
Its batch for step 0 has shape {tuple(inputs.shape)} and begins {_piece(walk, inputs[0, :N_ROWS])}."""


def the_logits(walk: Walk) -> str:
    probs = torch.softmax(walk.logits[0].double(), dim=-1)  # (T, V)
    at = int(torch.special.entr(probs).sum(-1).argmax())  # the entropy is highest where it is least sure
    logits, probs, right = walk.logits[0, at], probs[at], int(walk.targets[0, at])
    rows = [
        [_piece(walk, [i]) + " ← the text" * (i == right), f"{logits[i]:.2f}", f"{100 * probs[i]:.3g}%"]
        for i in dict.fromkeys([*probs.topk(N_BEST).indices.tolist(), right])
    ]
    return f"""{_link(type(walk.model).forward)} gives, at each position, every token of the vocabulary a
score, its logit: shape {tuple(walk.logits.shape)}. A softmax turns them into probabilities of the next
token. The model is least sure at position {at}, after {_context(walk, at)}:

{table(["next token", "logit", "probability"], rows)}

It finds {int((probs > probs[right]).sum()):,} tokens likelier than the one that does come."""


def the_loss(walk: Walk) -> str:
    losses, targets = walk.losses, walk.targets[0].tolist()
    from_easy_to_hard, last = losses.argsort().tolist(), len(losses) - 1
    shown = sorted({from_easy_to_hard[round(last * part)] for part in (0, 0.5, 0.8, 0.9, 0.95, 1)})
    rows = [
        [_context(walk, i), _piece(walk, [targets[i]]), f"{math.exp(-losses[i]):.4g}", f"{losses[i]:.3f}"]
        for i in shown
    ]
    n_bytes = sum(len(walk.vocabulary[i]) for i in targets if i != walk.ids[-1])
    mean, perplexity, bits_per_byte = summarize_losses(losses.numpy(), n_bytes).values()
    n_tokens = len(losses)
    share = losses.topk(math.ceil(len(losses) / 10)).values.sum() / losses.sum()
    return f"""{_link(cross_entropy)} asks only what probability p the right token got: the loss is −ln p.
The hardest tenth of the tokens makes up {share:.0%} of the sum. Some of the text's tokens, easy and hard:

{table(["after", "right token", "p", "−ln p"], rows)}

{_link(summarize_losses)} adds them up, over {n_tokens:,} tokens that stand for {n_bytes:,} bytes:

- mean loss: **{mean:.3f}** nats a token
- perplexity: exp {mean:.3f} = **{perplexity:,.2f}**, as if so many tokens were equally likely each time
- bits per byte: {mean:.3f} · {n_tokens:,} / (ln 2 · {n_bytes:,}) = **{bits_per_byte:.3f}**"""


def the_step(walk: Walk) -> str:
    exact = TrainParams.load().model_copy(update={"dtype": "float32", "compile": False})
    state = TrainState(walk.model.params, exact, walk.model.vocab_size)
    weight, rate = state.model.head_weight, learning_rate(0, exact)
    weight_before, before = weight[0, 0].item(), _loss(state.model, walk)
    _, grad_norm = train_step(state, (walk.inputs, walk.targets), rate)
    weight_after, after = weight[0, 0].item(), _loss(state.model, walk)
    clipping = f"before clipping to {exact.grad_clip:g}" if exact.grad_clip else "clipping is off"
    rows = [
        ["ln V, the loss of an even guess", f"{math.log(walk.model.vocab_size):.4f}"],
        ["loss of the new model", f"{before:.4f}"],
        [f"norm of the gradient ({clipping})", f"{grad_norm:.4g}"],
        ["learning rate of step 0", f"{rate:.4g}"],
        ["`head_weight[0, 0]`", f"{weight_before:.7f} → {weight_after:.7f}"],
        ["change of this weight", f"{weight_after - weight_before:.3g}"],
        ["loss of the new model after the step", f"{after:.4f}"],
        ["loss of the trained model", f"{walk.losses.mean():.4f}"],
    ]
    muon = "\nThe matrices of the blocks are Muon's." if exact.optimizer == "muon" else ""
    return f"""A new model, fresh from {_link(new_gpt)}, takes one {_link(train_step)} on this text
alone, at the first {_link(learning_rate)} of the schedule: the loss {"falls" if after < before else "rises"}
by {abs(before - after):.4f}. Of {_link(build_optimizers)}, the head is AdamW's, which divides a gradient by
its usual size: in a first step only its sign is left, and each weight moves by about the learning rate.{muon}

{table(["", "value"], rows)}"""


def the_sample(walk: Walk) -> str:
    params = SampleParams.load()
    at = int(walk.losses[:N_ROWS].argmax())  # the prompt ends before a token that is hard to guess
    prompt, end_of_text = walk.ids[:at].tolist(), int(walk.ids[-1])
    n_new = min(N_NEW, params.max_new_tokens)

    def written(temperature: float) -> str:
        changes = {"temperature": temperature, "num_samples": 1, "max_new_tokens": n_new}
        new = generate(walk.model, [prompt], params.model_copy(update=changes), end_of_text)[0][0]
        return quote(decode(walk.tokenizer, [*prompt, *new]) + " […]" * (len(new) == n_new))

    plain = {"top_k": None, "top_p": None, "min_p": None, "repetition_penalty": 1.0}
    steps = [params.model_copy(update=plain | {"temperature": 1.0}), params.model_copy(update=plain), params]
    settings = {step.describe(): step for step in steps}
    columns = [  # (V,) each
        next_token_probs(walk.logits[:, at], walk.inputs[:, : at + 1], step)[0] for step in settings.values()
    ]
    best = columns[0].topk(N_BEST).indices
    rows = [[_piece(walk, [i]), *(f"{100 * probs[i]:.3g}%" for probs in columns)] for i in best.tolist()]
    rows += [["all others", *(f"{100 * probs.index_fill(0, best, 0).sum():.3g}%" for probs in columns)]]
    rows += [["tokens that can be drawn", *(f"{probs.count_nonzero():,}" for probs in columns)]]
    return f"""Given {_piece(walk, walk.inputs[0, : at + 1])}, the model goes on by itself: {_link(generate)}
picks a next token from its predictions, appends it and asks again. Picking the likeliest each time (greedy):

{written(0.0)}

Drawing at temperature {params.temperature:g}, with seed {params.seed}:

{written(params.temperature)}

Before each draw, {_link(next_token_probs)} reshapes the probabilities. Those of the first new token:

{table(["next token", *settings], rows)}"""


SECTIONS = {
    "The text": the_text,
    "Its tokens": the_tokens,
    "A batch": the_batch,
    "Logits": the_logits,
    "The loss": the_loss,
    "A step of training": the_step,
    "A sample": the_sample,
}


@torch.no_grad()
def _loss(model: GPT, walk: Walk) -> float:
    """Mean loss in nats, without dropout."""
    return cross_entropy(model.eval()(walk.inputs.to(model.device)).cpu(), walk.targets).item()


def _link(function: Any) -> str:
    return f"[`{function.__qualname__}`](../{function.__module__.replace('.', '/')}.py)"


def _context(walk: Walk, position: int) -> str:
    """The last few tokens that the model has seen at a position."""
    return _piece(walk, walk.inputs[0, max(0, position - 3) : position + 1])


def _piece(walk: Walk, ids: Any) -> str:
    """Tokens as code in which every character can be seen, between more backticks than it holds."""
    text = b"".join(walk.vocabulary[i] for i in ids).decode(errors="replace")
    text = "".join(VISIBLE.get(c, c if c.isprintable() else "�") for c in text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " * (text.startswith("`") or text.endswith("`"))
    return f"{fence}{pad}{text}{pad}{fence}"


if __name__ == "__main__":
    run_command(main)
