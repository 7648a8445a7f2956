"""Record token probabilities and attention weights of a model on one text.

Shapes: N tokens of the text, L layers, H heads, T query positions, S key positions (here S = T),
D = head_dim, V = vocab_size.
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
from slm.tokenizer.tokenizer import decode, end_of_text_id, tiktoken_encoding

N_ALTERNATIVES = 5
# Attention weights are recorded for this many tokens; their number grows with the square.
MAX_ATTENTION = 48


class AttentionWeights(TorchFunctionMode):
    """A context in which every attention layer appends its weights, (B, H, T, S), to `layers`.

    It intercepts the call from the model to torch, so it records the queries and keys that the model uses.
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
    """Return the attention weights (B, H, T, S): softmax(q kᵀ / √D) with the mask applied.

    The arguments are those of `scaled_dot_product_attention` (Vaswani et al. 2017), which does not return
    its weights.
    """
    # Grouped-query attention: several query heads share the keys of one head.
    k = k.repeat_interleave(q.size(1) // k.size(1), dim=1)
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

    As in training the text follows `<|endoftext|>`, which is position 0; position 1 is the first token. The
    model must be in `eval` mode.
    """
    ids = ids[: model.params.block_size]
    end_of_text = end_of_text_id(tokenizer)
    sequence = torch.tensor([[end_of_text, *ids]], device=model.device)  # (1, N + 1)
    probabilities = model(sequence[:, :-1])[0].softmax(-1)  # (N, V)
    best = probabilities.topk(min(N_ALTERNATIVES, model.vocab_size))
    with AttentionWeights() as attention:
        model(sequence[:, : min(len(ids), MAX_ATTENTION)], last=1)
    weights = torch.cat(attention.layers)  # (L, H, T, T)
    return Inspection(
        given=min(n_given, len(ids)),
        tokens=_token_strings(tokenizer, ids),
        probabilities=_rounded(probabilities.gather(-1, sequence[0, 1:, None])[:, 0]),
        alternatives=[
            [(decode(tokenizer, [i]), p) for i, p in zip(indices.tolist(), _rounded(values), strict=True)]
            for indices, values in zip(best.indices, best.values, strict=True)
        ],
        attention=[
            [[[round(w, 3) for w in row] for row in head] for head in layer] for layer in weights.tolist()
        ],
    )


def _token_strings(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """Return the text of each token; bytes of an incomplete character move to the token that completes it."""
    encoding, decoder = tiktoken_encoding(tokenizer), codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(encoding.decode_single_token_bytes(i)) for i in ids]


def _rounded(values: Tensor) -> list[float]:
    """Round to four significant digits, to keep the file small."""
    return [float(f"{value:.4g}") for value in values.tolist()]
