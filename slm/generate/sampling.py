"""Sample the next token from the logits, reshaped by the parameters.

The parameters mean what they mean in Hugging Face's transformers, and apply in the same order: repetition
penalty, temperature, top-k, top-p, min-p. Rows do not influence each other, except in the last bits.

Shapes: B sequences, T tokens in each so far, V = vocab_size, K candidate tokens.
"""

import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.generate.params import GenerationParams

# Replaces a temperature of 0; large enough that no logit divided by it overflows float32.
MIN_TEMPERATURE = 1e-20
# Nearly every nucleus lies within this many tokens; sorting a large vocabulary is slow.
NUCLEUS_SEARCH_SIZE = 1000


def sample_next(logits: Tensor, sequences: Tensor, params: GenerationParams, uniform: Tensor) -> Tensor:
    """Return the next token (B,), given logits (B, V), sequences (B, T) and uniform numbers (B,) in [0, 1).

    Each number selects a token by the inverse of the cumulative distribution. Raises UserError if the logits
    contain NaN or Inf.
    """
    weights, tokens = candidates(logits, sequences, params)
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1:]
    if not total.isfinite().all():
        raise UserError("the model's logits contain NaN or Inf; train it again")
    # The threshold lies in (0, total], so rounding never selects a token of weight 0.
    selected = torch.searchsorted(cumulative, (1 - uniform[:, None]) * total)
    return tokens.gather(-1, selected).squeeze(-1)


def next_token_probs(logits: Tensor, sequences: Tensor, params: GenerationParams) -> Tensor:
    """Return the probabilities (B, V) that `sample_next` samples from."""
    weights, tokens = candidates(logits, sequences, params)
    return torch.zeros_like(logits).scatter(-1, tokens, weights / weights.sum(-1, keepdim=True))


def candidates(logits: Tensor, sequences: Tensor, params: GenerationParams) -> tuple[Tensor, Tensor]:
    """Return unnormalized probabilities (B, K), where the highest is 1, and their tokens (B, K).

    A temperature below 1 sharpens the distribution; 0 leaves only the most likely token. top_k keeps the k
    most likely tokens (Fan et al. 2018), min_p those with at least this fraction of the highest probability
    (Nguyen et al. 2024).
    """
    vocab_size = logits.size(-1)
    if params.repetition_penalty != 1:
        logits = penalize(logits, sequences, params.repetition_penalty)
    if params.temperature == 0:
        logits, tokens = logits.max(-1, keepdim=True)
    elif params.top_k and params.top_k < vocab_size:
        logits, tokens = logits.topk(params.top_k)
    else:
        tokens = torch.arange(vocab_size, device=logits.device).expand_as(logits)
    # Differences are at most 0, so dividing by a tiny temperature never gives +Inf.
    differences = logits - logits.amax(-1, keepdim=True)
    weights = differences.div_(max(params.temperature, MIN_TEMPERATURE)).exp_()
    if params.top_p and params.top_p < 1:
        weights, tokens = nucleus(weights, tokens, params.top_p)
    if params.min_p:
        weights = weights.masked_fill(weights < params.min_p, 0)
    return weights, tokens


def nucleus(weights: Tensor, tokens: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Keep the fewest most likely tokens whose weights are `top_p` of the sum (Holtzman et al. 2020)."""
    threshold = top_p * weights.sum(-1, keepdim=True)  # (B, 1)
    for size in (NUCLEUS_SEARCH_SIZE, weights.size(-1)):
        largest, order = weights.topk(min(size, weights.size(-1)))
        cumulative = largest.cumsum(-1)
        if (cumulative[:, -1:] >= threshold).all():
            break
    is_outside = cumulative - largest >= threshold
    return largest.masked_fill(is_outside, 0), tokens.gather(-1, order)


def penalize(logits: Tensor, sequences: Tensor, penalty: float) -> Tensor:
    """Lower the logits (B, V) of all tokens in the sequences (B, T), prompts included (Keskar et al. 2019).

    A positive logit is divided by the penalty and a negative one multiplied, as Hugging Face does; the paper
    divides both, which would raise a negative one.
    """
    present = logits.gather(-1, sequences)
    return logits.scatter(-1, sequences, torch.where(present < 0, present * penalty, present / penalty))
