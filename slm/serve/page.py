"""The web page of the server."""

import re
from pathlib import Path

from slm.generate.params import DEFAULTS
from slm.model.gpt import GPT, count_params

FOLDER = Path(__file__).parent


def render_page(model: GPT) -> str:
    """Return the page of a model: one HTML file with its styles and scripts, which works offline."""
    page = re.sub(r"INCLUDE (\S+)", lambda match: _read(match[1]), _read("page.html"))
    values: dict[str, float] = {"N_PARAMS": count_params(model), "BLOCK_SIZE": model.params.block_size}
    values["TEMPERATURE"] = DEFAULTS["temperature"]
    return re.sub("|".join(values), lambda match: f"{values[match[0]]:,}", page)


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
