"""The learning rate over time: a linear warm-up, then half a cosine, or a plateau and a straight line.

And the length of windows, which may be short at first.
"""

import math

from slm.train.params import TrainParams

MOST_PIECES = 4  # that a window is cut into at first
KEYS_OF_THE_END = {"max_steps", "decay_steps", "min_lr"}  # without effect before it begins


def learning_rate(step: int, params: TrainParams) -> float:
    """The learning rate of a step (counted from 0): highest at `warmup_steps`, never 0 before `max_steps`.

    The cosine is Loshchilov & Hutter's (2017) without restarts; GPT-3 put the warm-up before it
    (Brown et al. 2020). Warm-up, stable, decay (wsd) is MiniCPM's (Hu et al. 2024), here with a linear decay
    (Hägele et al. 2024); without decay steps the learning rate stays constant.
    """
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / (params.warmup_steps + 1)
    if params.schedule == "cosine":
        progress = (step - params.warmup_steps) / (params.max_steps - params.warmup_steps)
        share = (1 + math.cos(math.pi * progress)) / 2
    elif step < end_begins(params):
        return params.learning_rate  # to the last bit, whatever min_lr is
    else:
        share = (params.max_steps - step) / params.decay_steps
    return params.min_lr + (params.learning_rate - params.min_lr) * share


def n_pieces(step: int, params: TrainParams) -> int:
    """Into how many pieces windows are cut at a step: short ones are cheaper, and enough for the first words.

    The tokens of a step stay the same (Li et al. 2022).
    """
    if step >= params.seq_len_warmup_steps:
        return 1
    return MOST_PIECES if step < params.seq_len_warmup_steps / 2 else 2


def end_begins(params: TrainParams) -> int:
    """The step from which on the learning rate depends on `max_steps`; until then all runs are alike."""
    return params.max_steps - params.decay_steps if params.schedule == "wsd" else 0
