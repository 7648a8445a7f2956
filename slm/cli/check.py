"""`slm check`: check every section of params.yaml before anything runs."""

import argparse
from pathlib import Path
from typing import Any

from slm.core.config import (
    NOT_SET,
    PARAMS_FILE,
    ParamsSection,
    check_item_names,
    get_value,
    new_name,
    read_yaml,
)
from slm.core.errors import UserError
from slm.data.params import DataParams
from slm.eval.params import EvaluateParams
from slm.eval_samples.params import EvalSamplesParams
from slm.generate.params import SampleParams
from slm.model.params import ModelParams
from slm.sft.params import SFTParams
from slm.tokenizer.params import TokenizerParams
from slm.train.params import TrainParams

DESCRIPTION = """\
Check every section of a params file, and that the files and folders that it names exist. Prints one line
for each wrong key."""
EXAMPLES = """\
examples:
  slm check
  slm check other-params.yaml"""
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
# Keys whose values are paths of files or folders; * stands for the name of an item.
PATH_KEYS = (
    "data.files.train",
    "data.files.validation",
    "train.init_from",
    "evaluate.datasets.*.file",
    "sft.*.file",
)


def check(path: Path) -> None:
    """Raise UserError with a line for each wrong key of the file, and for each missing file that it names."""
    values = read_yaml(path)
    check_values(values, path)
    check_paths(values, path)


def check_paths(values: dict[str, Any], path: Path) -> None:
    """Raise UserError with a line for each key, of valid values, whose file or folder does not exist.

    DVC needs all of them, even those that the values make no use of.
    """
    lines = []
    for pattern in PATH_KEYS:
        parent, star, child = pattern.partition(".*")
        keys = [f"{parent}.{name}{child}" for name in get_value(values, parent)] if star else [pattern]
        for key in keys:
            file = get_value(values, key)
            if file != NOT_SET and not Path(file).exists():
                lines.append(f"{path}: {key}: no such file or folder: {file}")
    if lines:
        raise UserError("\n".join(lines))


def check_values(values: dict[str, Any], path: Path) -> None:
    """Raise UserError with a line for each wrong key of the values of a params file."""
    known = [section.section for section in SECTIONS]
    lines, replaced = [], set()
    for key in values:
        if new := new_name(str(key)):
            lines.append(f"{path}: {key}: was renamed to {new}")
            replaced.add(new)
        elif key not in known:
            lines.append(f"{path}: {key}: unknown section; must be one of {', '.join(known)}")
    for section in SECTIONS:
        # Under its old name a section is not missing.
        if section.section not in values and section.section in replaced:
            continue
        try:
            for key in NAMED_ITEMS.get(section.section, ()):
                if isinstance(get_value(values, key), dict):
                    check_item_names(values, key, path)
            section.check(values.get(section.section, {}), path)
        except UserError as error:
            lines.append(str(error))
    if lines:
        raise UserError("\n".join(lines))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `slm check`, its description and examples."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=PARAMS_FILE,
        metavar="FILE",
        help="params file to check (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Check the file and print that it is valid."""
    check(args.file)
    print(f"{args.file}: ok")
