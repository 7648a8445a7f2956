"""Check the whole of params.yaml at once, before anything runs: python -m stages.check [FILE]."""

import sys
from pathlib import Path

from slm.corpus.params import DataParams
from slm.evaluation.params import EvaluateParams
from slm.evaluation.quality_params import QualityParams
from slm.model.params import ModelParams
from slm.params import PARAMS_FILE, Section, UserError, read_yaml, run_command
from slm.text.params import SampleParams
from slm.tokens.params import TokenizerParams
from slm.training.finetune_params import FinetuneParams
from slm.training.params import TrainParams

SECTIONS: tuple[type[Section], ...] = (
    DataParams,
    TokenizerParams,
    ModelParams,
    TrainParams,
    EvaluateParams,
    SampleParams,
    QualityParams,
    FinetuneParams,
)


def check(path: Path) -> None:
    """Raise UserError with a line for each wrong key of the file."""
    values = read_yaml(path)
    known = [section.section for section in SECTIONS]
    lines = [
        f"{path}: {key}: unknown section; allowed: {', '.join(known)}" for key in values if key not in known
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
