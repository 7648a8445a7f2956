"""Check the whole of params.yaml at once, before anything runs: python -m stages.check [FILE]."""

import sys
from pathlib import Path
from typing import Any

from slm.core.config import PARAMS_FILE, RENAMED, Section, read_yaml
from slm.core.errors import UserError, run_command
from slm.data.params import DataParams
from slm.eval.params import EvaluateParams
from slm.eval_samples.params import EvalSamplesParams
from slm.generate.params import SampleParams
from slm.model.params import ModelParams
from slm.sft.params import SFTParams
from slm.tokenizer.params import TokenizerParams
from slm.train.params import TrainParams

SECTIONS: tuple[type[Section], ...] = (
    DataParams,
    TokenizerParams,
    ModelParams,
    TrainParams,
    EvaluateParams,
    SampleParams,
    EvalSamplesParams,
    SFTParams,
)


def check(path: Path) -> None:
    """Raise UserError with a line for each wrong key of the file."""
    check_values(read_yaml(path), path)


def check_values(values: dict[str, Any], path: Path) -> None:
    """Raise UserError with a line for each wrong key of the values, which come from `path`."""
    known = [section.section for section in SECTIONS]
    lines = [
        f"{path}: {key}: was renamed to {RENAMED[key]}"
        if key in RENAMED
        else f"{path}: {key}: unknown section; allowed: {', '.join(known)}"
        for key in values
        if key not in known
    ]
    for section in SECTIONS:
        try:
            section.check(values.get(section.section, {}), path)
        except UserError as error:
            lines.append(str(error))
    if lines:
        raise UserError("\n".join(lines))


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PARAMS_FILE
    check(path)
    print(f"{path}: ok")


if __name__ == "__main__":
    run_command(main)
