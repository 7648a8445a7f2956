"""The learning rate over time: a linear warm-up, then half a cosine, or a plateau and a straight line."""

import math

from slm.training.params import TrainParams

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


def end_begins(params: TrainParams) -> int:
    """The step from which on the learning rate depends on `max_steps`; until then all runs are alike."""
    return params.max_steps - params.decay_steps if params.schedule == "wsd" else 0
