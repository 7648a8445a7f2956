"""`slm recipe`, in small git repositories."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from slm.cli.recipes import MARK
from slm.core.config import PARAMS_FILE, read_yaml
from tests.project import ROOT, commit, git, run_slm, start_git

DEFAULTS = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Create a git repository with committed defaults and three recipes; make it the current folder."""
    (tmp_path / "params.yaml").write_text(DEFAULTS, encoding="utf-8")
    (tmp_path / "recipes").mkdir()
    write_recipe(tmp_path, "wide", "# A wide model.\n# Cost: high.\n\nmodel:\n  n_embd: 512\n")
    write_recipe(tmp_path, "deep", "# A deep model.\n\nmodel:\n  n_layer: 9\n")
    write_recipe(tmp_path, "plain", "# The defaults.\n\n{}\n")
    start_git(tmp_path)
    commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_recipe(project, name, text):
    (project / f"recipes/{name}.yaml").write_text(text, encoding="utf-8")


def apply(*arguments):
    """Apply a recipe, which must succeed; return stdout."""
    result = run_slm("recipe", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def refuse(*arguments):
    """Apply a recipe, which must fail and leave params.yaml unchanged; return the error."""
    before = params()
    result = run_slm("recipe", *arguments)
    assert result.returncode == 1
    assert params() == before
    assert result.stderr.startswith("error: ")
    return result.stderr.removeprefix("error: ").removesuffix("\n")


def params():
    return PARAMS_FILE.read_text(encoding="utf-8")


def sizes(path=PARAMS_FILE):
    model = read_yaml(path)["model"]
    return model["n_layer"], model["n_embd"]


def test_list_shows_each_recipe_with_its_first_line(project):
    lines = apply().splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["deep", "A deep model."],
        ["plain", "The defaults."],
        ["wide", "A wide model."],
    ]
    assert params() == DEFAULTS


def test_apply_changes_the_value_and_prints_the_header(project):
    assert "# " not in apply("wide")
    assert params() == f"{MARK}wide\n" + DEFAULTS.replace("n_embd: 128", "n_embd: 512")
    assert "Cost: high." in apply("wide")


def test_second_recipe_replaces_the_first(project):
    apply("wide")
    apply("deep")
    assert sizes() == (9, 128)
    apply("plain")
    assert params() == DEFAULTS


def test_recipe_on_a_committed_recipe_starts_from_the_defaults(project):
    apply("wide")
    commit(project)
    apply("deep")
    assert sizes() == (9, 128)
    apply("plain")
    assert params() == DEFAULTS


def test_committed_edits_are_defaults(project):
    (project / "params.yaml").write_text(DEFAULTS.replace("n_layer: 2", "n_layer: 3"))
    commit(project)
    apply("wide")
    assert sizes() == (3, 512)


@pytest.mark.parametrize("applied", ["wide", None])
def test_uncommitted_edits_are_kept_unless_forced(project, applied):
    if applied:
        apply(applied)
    (project / "params.yaml").write_text(params().replace("temperature: 0.6", "temperature: 0.7"))
    assert refuse("deep") == ("params.yaml: has uncommitted edits; commit them, or discard them with --force")
    apply("deep", "--force")
    assert sizes() == (9, 128)
    assert "temperature: 0.6" in params()


def test_missing_params_file_is_written(project):
    (project / "params.yaml").unlink()
    apply("plain")
    assert params() == DEFAULTS


def test_crlf_working_file_is_no_edit(project):
    (project / "params.yaml").write_bytes(DEFAULTS.replace("\n", "\r\n").encode())
    apply("deep")
    assert sizes() == (9, 128)


def test_project_in_a_subfolder_of_the_repository(project, monkeypatch):
    (project / "inner").mkdir()
    (project / "inner/params.yaml").write_text(DEFAULTS.replace("n_layer: 2", "n_layer: 4"))
    shutil.copytree(project / "recipes", project / "inner/recipes")
    commit(project)
    monkeypatch.chdir(project / "inner")
    apply("wide")
    assert sizes() == (4, 512)


def test_path_is_a_recipe(project):
    (project / "other.yaml").write_text("# Other.\n\nsample:\n  prompts: ['a', \"b\"]\n")
    apply("./other.yaml")
    assert params() == f"{MARK}other.yaml\n" + DEFAULTS.replace(
        '["", "Once upon a time there was a"]', "['a', \"b\"]"
    )
    apply("other.yaml")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "model: {n_layers: 3}\n",
            "bad.yaml: model.n_layers: unknown key; must be one of architecture",
        ),
        ("modle: {n_layer: 3}\n", "bad.yaml: modle: unknown section; must be one of data, tokenizer, model"),
        ("model: {n_layer: many}\n", "bad.yaml: model.n_layer: must be a valid integer, got 'many'"),
        ("model: {n_head: 3}\n", "bad.yaml: model.n_embd: must be"),
        ("model: null\n", "bad.yaml: model: must be a mapping, got null"),
        ("model: [1, 2\n", "bad.yaml:2: not valid YAML"),
        ("- model\n", "bad.yaml: must be a mapping of sections"),
        ("", "bad.yaml: must be a mapping of sections"),
        ("sft: &a {x: *a}\n", "bad.yaml: sft.x"),
        ("model: {n_layer: 3}\n---\nmodel: {n_layer: 4}\n", "bad.yaml:2: not valid YAML"),
        ("# \x1b[31mred\nmodel: {n_layer: 3}\n", "bad.yaml: not valid YAML"),
        ('model: {n_layer: !!python/object/apply:os.system ["touch ran"]}\n', "bad.yaml:1: not valid YAML"),
        ("data: {files: {train: !include /etc/passwd}}\n", "bad.yaml:1: not valid YAML"),
    ],
)
def test_wrong_recipe_is_refused_in_one_line(project, text, line):
    (project / "bad.yaml").write_text(text)
    error = refuse("bad.yaml")
    assert error.startswith(line)
    assert "\n" not in error
    assert not (project / "ran").exists()


def test_unknown_name_lists_the_names(project):
    assert refuse("wdie") == (
        "recipes/wdie.yaml: no such recipe; must be a path of a YAML file, or one of: deep, plain, wide"
    )


def test_missing_repository_is_reported(project):
    shutil.rmtree(project / ".git")
    assert "commit it first: git init" in refuse("wide")


def test_missing_commit_is_reported(project):
    shutil.rmtree(project / ".git")
    git(project, "init", "-q")
    assert "commit it first: git init" in refuse("wide")


def test_uncommitted_params_file_is_reported(project):
    shutil.rmtree(project / ".git")
    start_git(project)
    git(project, "add", "recipes")
    git(project, "commit", "-q", "-m", "recipes")
    assert "commit the defaults first: git add params.yaml && git commit" in refuse("wide")


def test_missing_git_is_reported(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert refuse("wide") == "git: not installed; recipes are applied to the committed params.yaml"


def test_dvc_exp_run_follows_a_recipe(project):
    """DVC takes the uncommitted params.yaml into the experiment, with a change by -S on top of it."""
    copy = "import shutil; shutil.copy('params.yaml', 'out.yaml')"
    stage = {"cmd": f'{sys.executable} -c "{copy}"', "params": ["model", "sample"], "outs": ["out.yaml"]}
    with (project / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": {"copy": stage}}, file)
    dvc("init", "-q")
    commit(project)
    apply("wide")
    dvc("exp", "run", "-q", "-n", "first")
    assert sizes() == (2, 512)
    assert sizes(Path("out.yaml")) == (2, 512)
    apply("deep")
    dvc("exp", "run", "-q", "-S", "sample.seed=3", "-n", "second")
    assert sizes(Path("out.yaml")) == (9, 128)
    refs = git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    by_name = {ref.rpartition("/")[2]: git(project, "show", f"{ref}:params.yaml") for ref in refs}
    assert "n_embd: 512" in by_name["first"]
    assert "n_layer: 9" in by_name["second"]


def dvc(*arguments):
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, timeout=100)
