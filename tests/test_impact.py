"""The table of what runs again is what DVC does, for every key and every file."""

import os
from contextlib import ExitStack, contextmanager
from io import BytesIO
from itertools import zip_longest
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from slm.params import PARAMS_FILE, read_yaml
from stages import impact
from stages.impact import FOLLOWS, RUNS, declarations, impact_table, keys_of
from tests.pipeline import clone_that_ran, enter, reproduced
from tests.project import ROOT, run_module


@pytest.fixture(scope="module")
def project_once(tmp_path_factory):
    return clone_that_ran(tmp_path_factory)


@pytest.fixture
def project(project_once, monkeypatch):
    """It is the current folder; who changes it puts it back."""
    enter(project_once, monkeypatch)
    return project_once


@pytest.fixture(scope="module")
def table(project_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project_once)
        return impact_table()


@contextmanager
def changed(path, content):
    """Within this context the file has another content."""
    before, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=times)  # what DVC knows of it holds again


def changed_file(name):
    return changed(Path(name), Path(name).read_bytes() + b"# another line\n")


def changed_key(key):
    """Give a key another value of its kind."""
    values = read_yaml(PARAMS_FILE)
    *sections, last = key.split(".")
    inner = values
    for section in sections:
        inner = inner[section]
    inner[last] = another(inner[last])
    content = BytesIO()
    YAML().dump(values, content)
    return changed(PARAMS_FILE, content.getvalue())


def another(value):
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case list():
            return [*value, "x"]
        case {}:
            return {"x": {"file": "params.yaml"}}
        case None:
            return 1
    raise TypeError(value)


def out_of_date(repo):
    """The stages whose own inputs DVC finds changed; those that follow are not among them yet."""
    return {stage for stage in repo.status() if "@" not in stage}


def changed_params(changes):
    """The params that DVC finds changed, of what it says of a stage."""
    deps = [change["changed deps"] for change in changes if "changed deps" in change]
    return {param for found in deps for param in found.get(str(PARAMS_FILE), {})}


def stages_with(mark, marks):
    """Of those that run here: no further text is to be scored, no model to be tuned."""
    return {stage for stage, found in zip(declarations(), marks, strict=True) if found == mark} - {
        "score",
        "finetune",
        "ask",
    }


def test_every_key_and_every_file_is_a_row(project, table):
    files = [path for top in ("slm", "stages") for path in Path(top).rglob("*.py")]
    files += Path("requirements").iterdir()
    keys = keys_of(read_yaml(PARAMS_FILE))
    assert {"data.hub.name", "sample.top_k"} <= set(keys)
    assert sorted(table) == sorted([*keys, *map(str, files)])


def test_dvc_finds_changed_for_every_key_what_the_table_marks(project, table):
    wrong, sections = {}, {}
    for key in keys_of(read_yaml(PARAMS_FILE)):
        sections.setdefault(key.partition(".")[0], []).append(key)
    for keys in zip_longest(*sections.values()):  # one of each: DVC says in which section a change is
        with ExitStack() as params:
            for key in filter(None, keys):
                params.enter_context(changed_key(key))
            with Repo() as repo:  # a new one: dvc.yaml has ${…} in it
                changes = {stage: changed_params(found) for stage, found in repo.status().items()}
        for section, key in zip(sections, keys, strict=True):
            found = {stage for stage in changes if "@" not in stage and section in changes[stage]}
            if key and found != (expected := stages_with(RUNS, table[key])):
                wrong[key] = f"the table marks {expected}, dvc status {found}"
    assert not wrong


def test_dvc_finds_changed_for_every_file_what_the_table_marks(project, table):
    names = [name for name in table if Path(name).is_file()]
    with ExitStack() as files, Repo() as repo:
        for name in names:  # all at once: DVC says of each stage which files it finds changed
            files.enter_context(changed_file(name))
        found = {stage: changes[0]["changed deps"] for stage, changes in repo.status().items()}
    wrong = {}
    for name in names:
        stages = {stage for stage, deps in found.items() if name in deps}
        if stages != (expected := stages_with(RUNS, table[name])):
            wrong[name] = f"the table marks {expected}, dvc status {stages}"
    assert not wrong


@pytest.mark.parametrize("change, expected", [
    ("sample.temperature", {"sample", "quality", "report"}),
    ("slm/text/generate.py", {"sample", "quality"}),
    ("slm/figures/style.py", {"plot"}),
    ("requirements/plots.txt", {"plot"}),
    ("evaluate.stride", {"evaluate", "report"}),
    ("slm/walkthrough.py", set()),
    ("requirements/tests.txt", set()),
    ("train.learning_rate", {"train", "report"}),
    ("slm/training/optimizer.py", {"train"}),
    ("requirements/torch.txt", {"train", "evaluate", "sample", "quality"}),
])  # fmt: skip
def test_only_what_a_change_matters_to_runs_again(table, change, expected):
    assert stages_with(RUNS, table[change]) == expected


def test_another_docstring_of_sampling_or_colour_of_a_plot_does_not_retrain(project):
    text, figures = Path("slm/text/generate.py"), Path("slm/figures/style.py")
    docstring = text.read_bytes().replace(b'"""Write text', b'"""Write better text')
    colour = figures.read_bytes().replace(b"#0072B2", b"#0072B3")
    assert docstring != text.read_bytes()
    assert colour != figures.read_bytes()
    with changed(text, docstring), changed(figures, colour), Repo() as repo:
        assert out_of_date(repo) == {"sample", "quality", "plot"}


@pytest.mark.parametrize("pin, other, expected", [
    (b"matplotlib==3", b"matplotlib==2", {"plot"}),
    (b"torch==2", b"torch==1", {"train", "evaluate", "sample", "quality"}),
    (b"tiktoken==0", b"tiktoken==1", {"tokenize", "evaluate", "sample", "quality"}),
    (b"pyarrow==2", b"pyarrow==1", {"download"}),
])  # fmt: skip
def test_another_version_runs_again_what_it_matters_to(project, pin, other, expected):
    path = next(path for path in Path("requirements").iterdir() if pin in path.read_bytes())
    with changed(path, path.read_bytes().replace(pin, other)), Repo() as repo:
        assert out_of_date(repo) == expected


def test_a_new_key_of_sampling_runs_what_writes(project):
    schema = Path("slm/text/params.py")
    added = schema.read_bytes() + b"    beam: float = 1.0\n"
    keys = PARAMS_FILE.read_bytes().replace(b"sample:\n", b"sample:\n  beam: 0.9\n")
    with changed(schema, added), changed(PARAMS_FILE, keys), Repo() as repo:
        assert stages_with(RUNS, impact_table()["sample.beam"]) == {"sample", "quality", "report"}
        assert out_of_date(repo) == {"sample", "quality", "report"}


@pytest.mark.slow
def test_what_runs_is_all_that_the_table_marks_if_all_comes_out_different(project, table):
    with ExitStack() as changes:
        for key in ("evaluate.ngram_order", "data.seed"):  # one after the other
            changes.enter_context(changed_key(key))
            assert set(reproduced()) == stages_with(RUNS, table[key]) | stages_with(FOLLOWS, table[key])
    reproduced()


def test_what_follows_does_not_run_if_all_comes_out_the_same(project, table):
    with changed_file("slm/training/optimizer.py"):
        follows = {"evaluate", "sample", "quality", "plot", "report"}
        assert stages_with(FOLLOWS, table["slm/training/optimizer.py"]) == follows
        assert reproduced() == ["train"]
    reproduced()


def test_the_page_on_the_cache_shows_the_short_table(monkeypatch, table):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(impact, "impact_table", lambda: table)  # which takes seconds
    shown = run_module("stages.impact", "--short").stdout
    assert shown.count("\n| `") > 10
    assert shown in (ROOT / "docs/cache.md").read_text(encoding="utf-8")
