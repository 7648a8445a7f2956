"""The learning rate over time: a linear warm-up, then half a cosine down to the minimum."""

import math

from slm.training.params import TrainParams


def learning_rate(step: int, params: TrainParams) -> float:
    """The learning rate of a step (counted from 0): highest at `warmup_steps`, never 0 before `max_steps`.

    The cosine is Loshchilov & Hutter's (2017) without restarts; GPT-3 put the warm-up before it
    (Brown et al. 2020).
    """
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / (params.warmup_steps + 1)
    progress = (step - params.warmup_steps) / (params.max_steps - params.warmup_steps)
    return params.min_lr + (params.learning_rate - params.min_lr) * (1 + math.cos(math.pi * progress)) / 2
