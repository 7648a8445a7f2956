"""What goes on in a model while it reads one text: how likely it found each token, and where it looked.

Shapes: N tokens of the text, L layers, H heads, T tokens read, S positions to look at (here the same ones),
D channels a head, V = vocab_size.
"""

import codecs
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from torch.overrides import TorchFunctionMode

from slm.model.gpt import GPT
from slm.results.samples import Inspection
from slm.tokenizer.tokenizer import END_OF_TEXT, decode, tiktoken_encoding

N_ALTERNATIVES = 5
MAX_ATTENTION = 48  # tokens: weights grow with their square


class AttentionWeights(TorchFunctionMode):
    """Within this context every attention also notes its weights, (B, H, T, S) a layer, in `layers`.

    It stands between the model and torch, so it sees the queries and keys that the model itself uses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Tensor] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            self.layers.append(attention_weights(*args, **kwargs))
        return function(*args, **kwargs)


def attention_weights(
    q: Tensor, k: Tensor, v: Tensor, *, attn_mask: Tensor | None, is_causal: bool, **_: Any
) -> Tensor:
    """What share (B, H, T, S) of each query's attention each position gets: softmax(q kᵀ / √D).

    The arguments are those of `scaled_dot_product_attention` (Vaswani et al. 2017), which keeps the weights
    to itself.
    """
    k = k.repeat_interleave(q.size(1) // k.size(1), dim=1)  # heads that share keys
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.size(-1))  # (B, H, T, S)
    if is_causal:
        attn_mask = torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    return scores.softmax(-1)


@torch.inference_mode()
def inspect(model: GPT, tokenizer: Tokenizer, ids: list[int], n_given: int = 0) -> Inspection:
    """Return token probabilities and attention for the first block_size tokens of a text.

    The text has at least one token; its first `n_given` are the prompt.

    As in training the text follows `<|endoftext|>`: that is what t = 0 stands for, t = 1 is the first token.
    The model's mode should be `eval`.
    """
    ids = ids[: model.params.block_size]
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    read = torch.tensor([[end_of_text, *ids]], device=model.device)  # (1, N + 1)
    probabilities = model(read[:, :-1])[0].softmax(-1)  # (N, V)
    best = probabilities.topk(min(N_ALTERNATIVES, model.vocab_size))
    with AttentionWeights() as attention:
        model(read[:, : min(len(ids), MAX_ATTENTION)], last=1)
    weights = torch.cat(attention.layers)  # (L, H, T, T)
    return Inspection(
        given=min(n_given, len(ids)),
        tokens=_pieces(tokenizer, ids),
        probabilities=_digits(probabilities.gather(-1, read[0, 1:, None])[:, 0]),
        alternatives=[
            [(decode(tokenizer, [i]), p) for i, p in zip(at.tolist(), _digits(values), strict=True)]
            for at, values in zip(best.indices, best.values, strict=True)
        ],
        attention=[
            [[[round(w, 3) for w in row] for row in head] for head in layer] for layer in weights.tolist()
        ],
    )


def _pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """The text of each token; bytes of an unfinished character wait for the token that ends it."""
    encoding, decoder = tiktoken_encoding(tokenizer), codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(encoding.decode_single_token_bytes(i)) for i in ids]


def _digits(values: Tensor) -> list[float]:
    """To four significant digits: more would only make the file larger."""
    return [float(f"{value:.4g}") for value in values.tolist()]
