"""The table of concepts points at what is really there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from slm.core.config import read_yaml
from tests.project import ROOT

DOCS = ROOT / "docs"
PARAMS_KEY = r"`((?:data|tokenizer|model|train|evaluate|sample)\.[\w.]+)`"


def where_column(page: str) -> list[str]:
    """The second column of every row of the table below its head."""
    rows = [re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith("|")]
    assert all(len(row) == 5 for row in rows), "three columns"
    return [row[2] for row in rows[2:]]


def places(cell: str) -> list[tuple[str, str | None]]:
    """The (file, name) pairs of a cell: names follow the link to their file; a lone file has none."""
    found: list[tuple[str, str | None]] = []
    for path, names in re.findall(r"\[`[^`]+`\]\(\.\./([^)]+)\)([^\[]*)", cell):
        found += [(path, name) for name in re.findall(r"`([^`]+)`", names) or [None]]
    return found


@cache
def names_in(path: Path) -> set[str]:
    """What a file defines: `function`, `CONSTANT`, `Class.method`, `Class.attribute`; the keys of YAML."""
    if path.suffix == ".yaml":
        return set(dotted_keys(read_yaml(path)))
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= defined(node)
        if isinstance(node, ast.ClassDef):
            members = set().union(*map(defined, node.body), *map(assigned_to_self, ast.walk(node)))
            found |= {f"{node.name}.{member}" for member in members}
    return found


def defined(node: ast.stmt) -> set[str]:
    """The names that a statement of a module or a class gives it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {part.id for part in assigned(node) if isinstance(part, ast.Name)}


def assigned_to_self(node: ast.AST) -> set[str]:
    """The x of `self.x = …`."""
    attributes = [part for part in assigned(node) if isinstance(part, ast.Attribute)]
    return {a.attr for a in attributes if isinstance(a.value, ast.Name) and a.value.id == "self"}


def assigned(node: ast.AST) -> list[ast.AST]:
    """All parts of what is left of an assignment's `=`."""
    if isinstance(node, ast.Assign):
        return [part for target in node.targets for part in ast.walk(target)]
    return list(ast.walk(node.target)) if isinstance(node, ast.AnnAssign) else []


def dotted_keys(values: dict, prefix: str = "") -> list[str]:
    keys = []
    for key, value in values.items():
        keys += [prefix + key, *(dotted_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [])]
    return keys


def not_there(page: str) -> list[str]:
    """What the page points at but is not there."""
    missing = []
    for path, name in (place for cell in where_column(page) for place in places(cell)):
        if not (ROOT / path).is_file():
            missing.append(path)
        elif name and name not in names_in(ROOT / path):
            missing.append(f"{path}: {name}")
    params = names_in(ROOT / "params.yaml")
    return missing + [key for key in re.findall(PARAMS_KEY, page) if key not in params]


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "concepts.md").read_text(encoding="utf-8")


def test_every_file_name_and_param_of_the_table_is_there(page):
    assert not_there(page) == []


def test_every_concept_has_a_place_in_the_code(page):
    cells = where_column(page)
    assert len(cells) > 30
    for cell in cells:
        assert any(path.endswith(".py") and name for path, name in places(cell)), cell
        assert re.sub(r"\[`([^`]+)`\]\(\.\./\1\)|`[\w.]+`|[,; ]", "", cell) == "", "all of it is understood"


def test_every_function_the_walkthrough_links_is_in_the_table(page):
    linked = re.findall(r"\[`([\w.]+)`\]\(\.\./([\w/]+\.py)\)", (DOCS / "walkthrough.md").read_text("utf-8"))
    assert linked
    in_table = {place for cell in where_column(page) for place in places(cell)}
    assert [name for name, path in linked if (path, name) not in in_table] == []


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("`GPT2Attention.forward`", "`GPT2Attention.backward`", "slm/model/gpt.py: GPT2Attention"),
        ("`init_rope`", "`init_weights`", "slm/model/gpt.py: init_weights"),
        ("`GPT.token_embedding`", "`GPT.wte`", "slm/model/gpt.py: GPT.wte"),
        ("`END_OF_TEXT`", "`END`", "slm/tokenizer/tokenizer.py: END"),
        ("(../slm/train/params.py)", "(../slm/schedule.py)", "slm/schedule.py"),
        ("`train.grad_clip`", "`train.clip`", "params.yaml: train.clip"),
        ("a softmax turns", "a softmax (`sample.beam`) turns", "sample.beam"),
    ],
)
def test_a_wrong_name_is_found(page, right, wrong, complaint):
    assert right in page
    assert any(line.startswith(complaint) for line in not_there(page.replace(right, wrong)))
