"""The page: to write with a model, and to ask it."""

import re
from pathlib import Path

from slm.generate.params import DEFAULTS
from slm.model.gpt import GPT, count_params

FOLDER = Path(__file__).parent


def page_of(model: GPT) -> str:
    """It works offline: its styles and scripts are in it. It tells the model's size."""
    page = re.sub(r"INCLUDE (\S+)", lambda found: _read(found[1]), _read("page.html"))
    facts: dict[str, float] = {"N_PARAMS": count_params(model), "BLOCK_SIZE": model.params.block_size}
    facts["TEMPERATURE"] = DEFAULTS["temperature"]
    return re.sub("|".join(facts), lambda found: f"{facts[found[0]]:,}", page)


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
