"""Choose the next token: from logits to probabilities, as the parameters reshape them, to a draw.

The parameters mean what they mean in Hugging Face's transformers, and apply in its order: repetition
penalty, temperature, top-k, top-p, min-p. Last bits aside, each row's choice is its own: the rows beside it
make no difference.

Shapes: B rows, T tokens in each so far, V = vocab_size, K tokens that are left to draw from.
"""

import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.generate.params import DrawParams

TINY = 1e-20  # as good as 0 for a temperature, and nothing divided by it is too large for a float32
ENOUGH = 1000  # tokens in which nearly every nucleus lies: to sort a large vocabulary is slow


def draw(logits: Tensor, texts: Tensor, params: DrawParams, uniform: Tensor) -> Tensor:
    """The next token (B,) of rows, given their logits (B, V), texts so far (B, T) and uniform numbers (B,).

    A number, from [0, 1), picks a token through the inverse of the cumulative distribution. Raises
    UserError if the logits are no numbers.
    """
    shares, tokens = candidates(logits, texts, params)
    cumulative = shares.cumsum(-1)
    total = cumulative[:, -1:]
    if not total.isfinite().all():
        raise UserError("the model's logits are no numbers; train it again")
    # In (0, total], so that what is found has a share, however the sums were rounded.
    picked = torch.searchsorted(cumulative, (1 - uniform[:, None]) * total)
    return tokens.gather(-1, picked).squeeze(-1)


def next_token_probs(logits: Tensor, texts: Tensor, params: DrawParams) -> Tensor:
    """Probabilities (B, V) that `draw` follows."""
    shares, tokens = candidates(logits, texts, params)
    return torch.zeros_like(logits).scatter(-1, tokens, shares / shares.sum(-1, keepdim=True))


def candidates(logits: Tensor, texts: Tensor, params: DrawParams) -> tuple[Tensor, Tensor]:
    """Shares (B, K) of the probability, the likeliest token's being 1, and the tokens (B, K) that have them.

    A temperature below 1 sharpens the distribution; at 0 the likeliest token has it all. top_k keeps so many
    of the likeliest tokens (Fan et al. 2018), min_p those with this share at least (Nguyen et al. 2024).
    """
    n_tokens = logits.size(-1)
    if params.repetition_penalty != 1:
        logits = penalize(logits, texts, params.repetition_penalty)
    if params.temperature == 0:
        logits, tokens = logits.max(-1, keepdim=True)
    elif params.top_k and params.top_k < n_tokens:
        logits, tokens = logits.topk(params.top_k)
    else:
        tokens = torch.arange(n_tokens, device=logits.device).expand_as(logits)
    below = logits - logits.amax(-1, keepdim=True)  # at most 0, so that a tiny temperature makes no infinity
    shares = below.div_(max(params.temperature, TINY)).exp_()
    if params.top_p and params.top_p < 1:
        shares, tokens = nucleus(shares, tokens, params.top_p)
    if params.min_p:
        shares = shares.masked_fill(shares < params.min_p, 0)
    return shares, tokens


def nucleus(shares: Tensor, tokens: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Keep the fewest tokens that have `top_p` of the sum, the likeliest (Holtzman et al. 2020)."""
    wanted = top_p * shares.sum(-1, keepdim=True)  # (B, 1)
    for n_likeliest in (ENOUGH, shares.size(-1)):
        likeliest, order = shares.topk(min(n_likeliest, shares.size(-1)))
        cumulative = likeliest.cumsum(-1)
        if (cumulative[:, -1:] >= wanted).all():
            break
    has_enough_before = cumulative - likeliest >= wanted
    return likeliest.masked_fill(has_enough_before, 0), tokens.gather(-1, order)


def penalize(logits: Tensor, texts: Tensor, penalty: float) -> Tensor:
    """Lower the logits (B, V) of all tokens that are in the texts (B, T), prompts too (Keskar et al. 2019).

    A positive logit is divided by the penalty, a negative one multiplied, as Hugging Face does it; the paper
    divides either, which would raise a negative one.
    """
    old = logits.gather(-1, texts)
    return logits.scatter(-1, texts, torch.where(old < 0, old * penalty, old / penalty))
