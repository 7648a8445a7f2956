"""Apply a recipe: a YAML file with the keys of params.yaml that differ from the committed defaults."""

import argparse
import io
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, RoundTripRepresenter
from ruamel.yaml.error import YAMLError

from slm.cli.check import check_values
from slm.core.config import PARAMS_FILE, read_yaml
from slm.core.errors import UserError
from slm.core.files import write_text

RECIPES = Path("recipes")
MARK = "# Recipe: "
DESCRIPTION = f"""\
Write the committed defaults with the values of a recipe to params.yaml. Without a name, list the recipes.

A recipe never adds to another one. The defaults are the newest committed params.yaml that does not begin
with "{MARK}NAME", the line that this command writes. To make an applied recipe your defaults, delete that
line and commit. `quickstart` restores the defaults.

Uncommitted edits of params.yaml are refused, but a recipe applied and not edited since may be replaced."""
EXAMPLES = """\
examples:
  slm recipe
  slm recipe tinystories-cpu"""


class _Representer(RoundTripRepresenter):
    """Write null as `null`, where ruamel.yaml writes nothing."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def read_recipe(name: str, defaults: str | None = None) -> dict[str, Any]:
    """Return a recipe's full params.

    `name` is as in `find_recipe`. `defaults` is the text of a params file; None means the committed defaults.
    """
    recipe = find_recipe(name)
    return _load(apply_recipe(recipe, committed_defaults() if defaults is None else defaults), recipe)


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: recipes/NAME.yaml, or `name` itself if it is a path with / or .yaml."""
    is_path = "/" in name or os.sep in name or name.endswith((".yaml", ".yml"))
    path = Path(name) if is_path else RECIPES / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(recipe.stem for recipe in list_recipes())
        raise UserError(f"{path}: no such recipe; must be a path of a YAML file, or one of: {names}")
    return path


def list_recipes() -> list[Path]:
    """Return the files of the project's recipes, sorted."""
    return sorted(RECIPES.glob("*.yaml"))


def apply_recipe(recipe: Path, defaults: str) -> str:
    """Return the text of a params file: `defaults` with a recipe's values.

    Mappings merge key by key; all else is replaced. Comments and layout of `defaults` are kept. Raises
    UserError with a line for each key that is unknown or has a wrong value.
    """
    check_values(_load(defaults, PARAMS_FILE), PARAMS_FILE)
    # The safe loader refuses all tags, so nothing in the file can construct an object.
    read_yaml(recipe)
    yaml = YAML()
    yaml.preserve_quotes = True
    # Never wrap a line.
    yaml.width = 2**20
    yaml.Representer = _Representer
    values, stream = yaml.load(defaults), io.StringIO()
    _merge(values, yaml.load(recipe.read_text(encoding="utf-8")))
    yaml.dump(values, stream)
    text = stream.getvalue()
    # Check what would be written, not what it was made from.
    check_values(_load(text, recipe), recipe)
    return text if text == defaults else f"{MARK}{' '.join(_label(recipe).split())}\n{text}"


def _label(recipe: Path) -> str:
    return recipe.stem if recipe.parent == RECIPES else str(recipe)


def _merge(values: Any, changes: Any) -> None:
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            _merge(values[key], change)
        else:
            values[key] = change


def _load(text: str, path: Path) -> dict[str, Any]:
    try:
        values = YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {error}".splitlines()[0]) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of sections, got {type(values).__name__}")
    return values


def committed_defaults() -> str:
    """Return the newest committed params.yaml that is not an applied recipe. Raises UserError without one."""
    for commit in _git("rev-list", "HEAD", "--", str(PARAMS_FILE)).split():
        text = _git("show", f"{commit}:./{PARAMS_FILE}")
        if not text.startswith(MARK):
            return text
    raise UserError(
        f"{PARAMS_FILE}: no commit has it without a recipe; commit the defaults first: "
        f"git add {PARAMS_FILE} && git commit"
    )


def _git(*arguments: str) -> str:
    """Return what a git command prints."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise UserError("git: not installed; recipes are applied to the committed params.yaml") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{PARAMS_FILE}: not UTF-8 at byte {error.start} of a commit") from None
    if result.returncode:
        reason = (result.stderr.splitlines() or [f"git {arguments[0]} failed"])[0]
        raise UserError(
            f"{PARAMS_FILE}: recipes are applied to its committed version, which git cannot read ({reason}); "
            f"commit it first: git init && git add . && git commit -m start"
        )
    return result.stdout


def _has_edits(recipe: Path, defaults: str) -> bool:
    """Return whether params.yaml has edits that are in no commit and come from no recipe."""
    try:
        current = PARAMS_FILE.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except UnicodeDecodeError:
        return True
    if current in (defaults, _git("show", f"HEAD:./{PARAMS_FILE}")):
        return False
    for path in (recipe, *list_recipes()):
        with suppress(UserError):
            if current == apply_recipe(path, defaults):
                return False
    return True


def _header(recipe: Path) -> list[str]:
    """Return the comment lines that a recipe begins with, without their #."""
    lines = []
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `slm recipe`, and its description."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="name of a recipe in recipes/, or path of a YAML file (default: list the recipes)",
    )
    parser.add_argument("--force", action="store_true", help="discard uncommitted edits of params.yaml")


def run(args: argparse.Namespace) -> None:
    """Apply the recipe `args.name` to params.yaml, or list the recipes if it is None."""
    if args.name is None:
        for path in list_recipes():
            print(f"{path.stem:<18}{(_header(path) or [''])[0]}")
        return
    recipe, defaults = find_recipe(args.name), committed_defaults()
    text = apply_recipe(recipe, defaults)
    if not args.force and _has_edits(recipe, defaults):
        raise UserError(f"{PARAMS_FILE}: has uncommitted edits; commit them, or discard them with --force")
    write_text(PARAMS_FILE, text)
    # What to know before it runs: the files it needs, its source, its cost.
    print(*_header(recipe), "", sep="\n")
    print(f"{PARAMS_FILE}: recipe {_label(recipe)} applied; run it with: dvc repro")
