"""Which stages run again when a key of params.yaml or a file changes: python -m stages.impact [--short].

A stage uses the sections that it loads, the files that it imports, itself or through others, and the files
of requirements/ that pin what it imports. All this is read from the code. dvc.yaml has to agree with it, and
only tells here which stage reads what another one writes.
"""

import argparse
import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slm.params import PARAMS_FILE, UserError, read_yaml, run_command
from slm.stage import DVC_FILE
from stages.check import SECTIONS
from stages.imports import imported_files, imported_libraries, requirements_of_libraries

RUNS, FOLLOWS = "●", "○"
LEGEND = f"{RUNS} runs again; {FOLLOWS} runs again if what it reads from earlier stages comes out different"

Table = dict[str, tuple[str, ...]]  # the marks of each row, one for each stage


def impact_table() -> Table:
    """A row for every key of params.yaml and every file of slm/, stages/ and requirements/."""
    stages = declarations()
    direct = direct_impact(stages)
    table = {}
    for name, runs in direct.items():
        follows = followers(runs, stages)
        table[name] = tuple(RUNS if s in runs else FOLLOWS if s in follows else "" for s in stages)
    return table


def declarations() -> dict[str, Any]:
    """What dvc.yaml says of each stage; of a `foreach` what it says of all its items."""
    return {name: stage.get("do", stage) for name, stage in read_yaml(DVC_FILE)["stages"].items()}


def direct_impact(stages: Iterable[str]) -> dict[str, set[str]]:
    """For every key and every file, the stages that use it."""
    requirements = requirements_of_libraries()
    used = {stage: sections_of(stage) | _files_of(stage, requirements) for stage in stages}
    files = [*Path("slm").rglob("*.py"), *Path("stages").glob("*.py"), *Path("requirements").glob("*.txt")]
    causes = {key: key.partition(".")[0] for key in keys_of(read_yaml(PARAMS_FILE))}
    causes |= {name: name for name in sorted(path.as_posix() for path in files)}
    return {name: {stage for stage in used if cause in used[stage]} for name, cause in causes.items()}


def followers(first: set[str], stages: dict[str, Any]) -> set[str]:
    """The stages that read what the first ones write, or what a stage that reads it writes, and so on."""
    found = set(first)
    for stage, declared in stages.items():  # in the order of the pipeline
        written = [Path(out) for earlier in found for out in outputs(stages[earlier])]
        deps = [Path(dep) for dep in declared["deps"]]
        if any(out.is_relative_to(dep) or dep.is_relative_to(out) for out in written for dep in deps):
            found.add(stage)
    return found - first


def outputs(declared: dict[str, Any]) -> list[str]:
    """What dvc.yaml says that a stage writes."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in declared.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def sections_of(stage: str) -> set[str]:
    """The sections of params.yaml that a stage loads: the X of its calls `stage.load(X)`."""
    section_of = {section.__name__: section.section for section in SECTIONS}
    nodes = ast.walk(ast.parse(Path(f"stages/{stage}.py").read_text(encoding="utf-8")))
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "stage.load"]
    return {section_of[ast.unparse(call.args[0])] for call in calls}


def keys_of(values: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys of nested mappings, with dots."""
    keys = []
    for key, value in values.items():
        inner = keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) else []
        keys += inner or [f"{prefix}{key}"]
    return keys


def _files_of(stage: str, requirements: dict[str, set[str]]) -> set[str]:
    """The files that a stage uses: its code, and the requirements of the libraries that it imports."""
    files = imported_files(Path(f"stages/{stage}.py"))
    libraries = imported_libraries(files)
    if missing := sorted(libraries - requirements.keys()):
        raise UserError(f"{', '.join(missing)}: not installed; pip install -r requirements.txt")
    return files.union(*(requirements[library] for library in libraries))


def shortened(table: Table) -> Table:
    """The same with a row for each set of marks, which names whole sections and folders where it can."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, marks in table.items():
        group = names.setdefault(marks, [])
        if (widest := _widest(name, table)) not in group:
            group.append(widest)
    return {"`, `".join(group): marks for marks, group in names.items()}


def _widest(name: str, table: Table) -> str:
    """The widest section or folder around a row in which all rows agree; else the row itself."""
    sign = "/" if "/" in name else "."
    parts = name.split(sign)
    for n in range(1, len(parts)):
        around = sign.join(parts[:n]) + sign
        if len({marks for other, marks in table.items() if other.startswith(around)}) == 1:
            return f"{around}*"
    return name


def markdown(table: Table) -> str:
    """The table, to be read as it is or rendered."""
    head = ["change of", *declarations()]
    rows = [[f"`{name}`", *marks] for name, marks in table.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---", *[":-:"] * (len(head) - 1)], *rows])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.impact", description="Which stages run again?")
    parser.add_argument("--short", action="store_true", help="group what agrees, as docs/cache.md shows it")
    table = impact_table()
    print(markdown(shortened(table) if parser.parse_args().short else table), f"\n{LEGEND}.", sep="\n")


if __name__ == "__main__":
    run_command(main)
