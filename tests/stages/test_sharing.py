"""Results shared through a DVC remote and the run-cache are not recomputed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from dvc.cli import main
from moto.server import ThreadedMotoServer

from slm import load
from tests.pipeline import clone_that_ran, enter
from tests.project import TINY, change_params, commit, git, run_stage

COMMITTED = {"data": TINY["data"]}
# Another corpus, and so other tokens and another model.
EARLIER = {"data": {"max_documents": 250}}
MODEL, SAMPLES = Path("models/model.safetensors"), Path("reports/samples.md")


def dvc(*arguments: str) -> None:
    assert main(list(arguments)) == 0


def stages_run(*arguments: str) -> list[str]:
    """Run `dvc repro` and return the stages that ran, without unchanged ones and those in the run-cache."""
    log = Path(".slm/log.jsonl")
    log.unlink(missing_ok=True)
    dvc("repro", *arguments)
    return [json.loads(line)["stage"] for line in log.read_text().splitlines()] if log.exists() else []


def results() -> dict[str, bytes]:
    """Return the content of the model and of every report."""
    return {str(path): path.read_bytes() for path in [MODEL, *Path("reports").rglob("*.*")]}


@contextmanager
def s3_server() -> Iterator[str]:
    """Run a local S3 server with a bucket `results` and yield its address."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, "/nonexistent")
        patch.setenv("NO_PROXY", "127.0.0.1")
        address = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client("s3", region_name="us-east-1", endpoint_url=address).create_bucket(Bucket="results")
        yield address
    server.stop()


@pytest.fixture(scope="module")
def original(request, tmp_path_factory):
    """Create a project with two remotes, a committed run and the experiment `earlier`.

    Both are pushed to a git server and to each remote (to S3 only if a test needs it). The working tree is
    that of the commit.
    """
    is_s3_used = any("s3" in item.name for item in request.session.items)
    remotes = ["directory", *(["s3"] if is_s3_used else [])]
    folder, server = clone_that_ran(tmp_path_factory), tmp_path_factory.mktemp("server")
    with s3_server() as address, pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        dvc("remote", "add", "--default", "directory", str(tmp_path_factory.mktemp("store")))
        dvc("remote", "add", "s3", "s3://results/slm")
        dvc("remote", "modify", "s3", "endpointurl", address)
        commit(folder)
        git(folder, "tag", "-a", "storyteller@v1.0.0", "-m", "the first")
        git(folder, "clone", "-q", "--bare", ".", str(server))
        committed = results()
        for remote in remotes:
            dvc("push", "--run-cache", "-r", remote)
        dvc("exp", "run", "-n", "earlier", "-S", f"data.max_documents={EARLIER['data']['max_documents']}")
        earlier = results()
        for remote in remotes:
            dvc("push", "--run-cache", "-r", remote)
            dvc("exp", "push", str(server), "earlier", "-r", remote)
        git(folder, "checkout", "-q", ".")
        dvc("checkout")
        assert results() == committed
        assert earlier[str(MODEL)] != committed[str(MODEL)]
        yield SimpleNamespace(folder=folder, server=server, committed=committed, earlier=earlier)


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.slow)])
def fresh_clone(request, original, tmp_path, monkeypatch):
    """Enter a new clone after `dvc pull --run-cache`."""
    git(tmp_path, "clone", "-q", str(original.server), "clone")
    enter(tmp_path / "clone", monkeypatch)
    dvc("remote", "default", "--local", request.param)
    dvc("pull", "--run-cache")
    return tmp_path / "clone"


def test_run_cache_restores_the_model_of_earlier_params(original, monkeypatch):
    enter(original.folder, monkeypatch)
    for params, expected in ((EARLIER, original.earlier), (COMMITTED, original.committed)):
        change_params(original.folder, params)
        # DVC has no run-cache for stages with outputs in git.
        assert stages_run() == ["sample", "report"]
        assert results() == expected


def test_fresh_clone_is_up_to_date_and_samples_the_same_text(fresh_clone, original):
    assert results() == original.committed
    SAMPLES.unlink()
    assert run_stage(fresh_clone, "sample").returncode == 0
    assert results() == original.committed
    assert stages_run() == []


def test_fresh_clone_pulls_the_corpus_of_earlier_params(fresh_clone):
    change_params(fresh_clone, EARLIER)
    assert stages_run("--pull", "download") == []
    assert json.loads(Path("data/corpus/summary.json").read_text())["train"]["documents"] < 250


def test_fresh_clone_applies_an_experiment_without_training(fresh_clone, original):
    # Nothing may have changed, because `dvc commit` would accept it.
    dvc("status", "--quiet")
    # The reports came with git; this adds them to the run-cache.
    dvc("commit", "--force")
    dvc("exp", "pull", "origin", "earlier")
    dvc("exp", "apply", "earlier")
    assert results() == original.earlier
    assert stages_run() == []
    change_params(fresh_clone, COMMITTED)
    assert stages_run() == []
    assert results() == original.committed


@pytest.mark.parametrize(
    "command", [("get", "{}", "models"), ("artifacts", "get", "{}", "storyteller", "--rev", "v1.0.0")]
)
def test_model_can_be_downloaded_without_a_clone(original, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    dvc(*(part.format(original.server) for part in command), "-o", "storyteller")
    assert Path("storyteller/model.safetensors").read_bytes() == original.committed[str(MODEL)]
    text = load("storyteller").generate("Once", seed=1, max_new_tokens=20)
    assert text == load(original.folder / "models").generate("Once", seed=1, max_new_tokens=20)
