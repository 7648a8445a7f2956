"""`slm check`: check every section of params.yaml before anything runs."""

import argparse
from pathlib import Path
from typing import Any

from slm.core.config import PARAMS_FILE, RENAMED, ParamsSection, read_yaml
from slm.core.errors import UserError
from slm.core.stage import check_name, names_at
from slm.data.params import DataParams
from slm.eval.params import EvaluateParams
from slm.eval_samples.params import EvalSamplesParams
from slm.generate.params import SampleParams
from slm.model.params import ModelParams
from slm.sft.params import SFTParams
from slm.tokenizer.params import TokenizerParams
from slm.train.params import TrainParams

SECTIONS: tuple[type[ParamsSection], ...] = (
    DataParams,
    TokenizerParams,
    ModelParams,
    TrainParams,
    EvaluateParams,
    SampleParams,
    EvalSamplesParams,
    SFTParams,
)

# Keys that hold items by name.
NAMED_ITEMS = {"evaluate": ["evaluate.datasets"], "sft": ["sft"]}


def check(path: Path) -> None:
    """Raise UserError with a line for each wrong key of the file."""
    check_values(read_yaml(path), path)


def check_values(values: dict[str, Any], path: Path) -> None:
    """Raise UserError with a line for each wrong key of the values, which come from `path`."""
    known = [section.section for section in SECTIONS]
    lines = [
        f"{path}: {key}: was renamed to {RENAMED[key]}"
        if key in RENAMED
        else f"{path}: {key}: unknown section; must be one of {', '.join(known)}"
        for key in values
        if key not in known
    ]
    for section in SECTIONS:
        try:
            for key in NAMED_ITEMS.get(section.section, ()):
                for name in names_at(values, key):
                    check_name(name, key)
            section.check(values.get(section.section, {}), path)
        except UserError as error:
            lines.append(str(error))
    if lines:
        raise UserError("\n".join(lines))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `slm check`."""
    parser.description = "Check every section of a params file; print one line for each wrong key."
    parser.add_argument(
        "file", nargs="?", type=Path, default=PARAMS_FILE, help="the params file (default: params.yaml)"
    )


def run(args: argparse.Namespace) -> None:
    """Check the file and print its name."""
    check(args.file)
    print(f"{args.file}: ok")
