"""Datasets of the Hub, read by the real client from a local server."""

import itertools
import json
import os
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slm.core.errors import UserError
from slm.data.documents import is_validation
from tests.hub import commit_of, serve
from tests.project import ROOT, change_params, run_stage, run_stages
from tests.tiny import HUB, data_params

STORIES = {
    "train": [["One. " * 9, "Two.\n\nTwo, <|endoftext|> too."], ["\0Thrée 🐸", "", "Four"]],
    "validation": [["Five", "Six"]],
    "test": [["Seven"]],
}
CARD = """---
license: cdla-sharing-1.0
dataset_info:
  splits:
  - {name: train, num_bytes: 100, num_examples: 5}
  - {name: validation, num_bytes: 10, num_examples: 2}
---
"""
numbers = itertools.count()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Serve the Hub of this module. The client reads its address once, when it is imported."""
    assert "slm.data.hub" not in sys.modules
    with serve(tmp_path_factory.mktemp("hub")) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.endpoint)
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HF_HOME", str(home))
        # Tests that use transformers may have imported it before.
        from huggingface_hub import constants

        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "ENDPOINT", server.endpoint)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        yield server


@pytest.fixture
def name(hub):
    """Return the name of a new dataset in Parquet shards with a card."""
    name = f"owner/stories-{next(numbers)}"
    put(hub, name, {f"data/{file}": table for file, table in shards(STORIES).items()} | {"README.md": CARD})
    hub.requests.clear()
    yield name
    hub.bytes_left = float("inf")


def shards(splits, column="text"):
    """Return tables by the file names that `datasets` uses."""
    return {
        f"{split}-{i:05d}-of-{len(parts):05d}.parquet": pa.table({"id": [*range(len(part))], column: part})
        for split, parts in splits.items()
        for i, part in enumerate(parts)
    }


def put(hub, name, files, revision="main"):
    for file, content in files.items():
        path = hub.root / name / revision / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            pq.write_table(content, path)


def params(name, **changes):
    """Return the section `data` for a dataset, with changes of `data` or of `data.hub`."""
    hub = {key: changes.pop(key) for key in list(changes) if key in HUB}
    values = {"source": "hub", "max_documents": None, "hub": {**HUB, "name": name, **hub}}
    return data_params(**{**values, **changes})


def read(name, **changes):
    """Return the texts of each split, their origin and their number."""
    from slm.data.hub import open_hub

    documents, origin, total = open_hub(params(name, **changes))
    pairs = [(document.split, document.text) for document in documents]
    texts = {split: [text for s, text in pairs if s == split] for split in ("train", "validation")}
    return texts["train"], texts["validation"], origin, total


def flat(split):
    return [text for part in STORIES[split] for text in part]


def test_hub_documents_are_in_order_with_commit_and_license(hub, name):
    train, validation, origin, total = read(name)
    assert (train, validation, total) == (flat("train"), flat("validation"), 7)
    assert origin == {
        "source": "hub",
        **HUB,
        "name": name,
        "commit": commit_of(name, "main"),
        "license": "cdla-sharing-1.0",
    }


def test_only_requested_splits_are_downloaded(hub, name):
    read(name)
    read(name, validation_split=None)
    fetched = {path for path in hub.served() if path.endswith(".parquet")}
    names = ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"]
    assert fetched == {f"data/{shard}.parquet" for shard in names}
    assert {path.split("/")[1] for path in hub.requests} <= {"api", "datasets"}
    assert all(name in path for path in hub.requests)


def test_max_documents_stops_the_download(hub):
    texts = [str(n) for n in range(300)]
    put(hub, "owner/many", shards({"train": [texts[:200], texts[200:]], "validation": [texts]}))
    hub.requests.clear()
    train, validation, _, _ = read("owner/many", max_documents=3, max_validation_documents=2)
    assert (train, validation) == (["0", "1", "2"], ["0", "1"])
    assert hub.served() == {"train-00000-of-00002.parquet", "validation-00000-of-00001.parquet"}


@pytest.mark.parametrize("revision", ["v2", commit_of("owner/versions", "v2")])
def test_revision_is_a_branch_or_a_commit(hub, revision):
    for version in ("main", "v2"):
        put(hub, "owner/versions", shards({"train": [[version]], "validation": [["x"]]}), version)
    train, _, origin, _ = read("owner/versions", revision=revision)
    assert (train, origin["commit"]) == (["v2"], commit_of("owner/versions", "v2"))


def test_fraction_is_held_out_without_a_validation_split(hub):
    scripts = [f"<b>INT. HOUSE {n}</b>\n" + "\t\x0b\x00Line. " * 300 for n in range(40)]
    put(hub, "owner/movies", shards({"train": [scripts]}, column="Script"))
    changes = {"text_column": "Script", "validation_split": None, "validation_fraction": 0.3}
    train, validation, _, total = read("owner/movies", **changes)
    assert validation == [script for script in scripts if is_validation(script, 0.3, 1)]
    assert 0 < len(validation) < 30
    assert train == [script for script in scripts if script not in validation]
    assert total is None


def test_config_selects_a_subset(hub):
    configs = [f"{{config_name: {c}, data_files: [{{split: train, path: {c}.jsonl}}]}}" for c in ("en", "fr")]
    lines = {"en.jsonl": '{"text": "Hello"}\n{"text": null}\n', "fr.jsonl": '{"text": "Bonjour"}\n'}
    put(hub, "owner/languages", {**lines, "README.md": f"---\nconfigs: [{', '.join(configs)}]\n---\n"})
    from slm.data.hub import open_hub

    texts = {}
    for config in ("en", "fr"):
        documents, _, _ = open_hub(params("owner/languages", config=config, validation_split=None))
        texts[config] = "".join(document.text for document in documents)
    assert texts == {"en": "Hello", "fr": "Bonjour"}
    expected = "data.hub.config: owner/languages has no config 'de'; must be one of en, fr"
    assert complaint("owner/languages", config="de") == expected


def test_null_is_an_empty_document(hub):
    put(hub, "owner/nulls", shards({"train": [["a", None]], "validation": [["b"]]}))
    assert read("owner/nulls")[0] == ["a", ""]


def test_broken_connection_is_resumed(hub):
    texts = [os.urandom(500).hex() for _ in range(3000)]
    put(hub, "owner/long", shards({"train": [texts], "validation": [["x"]]}))
    hub.bytes_left, hub.comes_back = 1_000_000, True
    assert read("owner/long")[0] == texts
    # The server resets this after it has broken a connection.
    assert hub.bytes_left == float("inf")


def complaint(name, **changes):
    with pytest.raises(UserError) as caught:
        read(name, **changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"revision": "v9"}, "data.hub.revision: {name} has no branch, tag or commit 'v9'"),
        ({"config": "de"}, "data.hub.config: {name} has no config 'de'; must be one of default"),
        (
            {"train_split": "training"},
            "data.hub.train_split: {name} has no split 'training'; must be one of train, validation, test",
        ),
        (
            {"validation_split": "valid"},
            "data.hub.validation_split: {name} has no split 'valid'; must be one of train, validation, test,"
            " null (hold out a fraction of train_split)",
        ),
        (
            {"text_column": "story"},
            "data.hub.text_column: {name} must have a column 'story' of strings, "
            "got id (int64), text (string)",
        ),
        (
            {"text_column": "id"},
            "data.hub.text_column: {name} must have a column 'id' of strings, got id (int64), text (string)",
        ),
    ],
)
def test_missing_part_of_a_dataset_is_reported(hub, name, changes, line):
    assert complaint(name, **changes) == line.format(name=name)


def test_missing_dataset_is_reported(hub):
    expected = f"data.hub.name: {hub.endpoint} has no dataset owner/nothing, or HF_TOKEN gives no access"
    assert complaint("owner/nothing") == expected


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (403, "data.hub.name: owner/gated is gated: accept its terms on the Hub, then set HF_TOKEN"),
        (
            500,
            "data.hub: {endpoint} answered with an error (HfHubHTTPError: Server error '500 ",
        ),
    ],
)
def test_hub_error_is_reported(hub, monkeypatch, status, line):
    monkeypatch.setattr(hub, "status", status)
    assert complaint("owner/gated").startswith(line.format(endpoint=hub.endpoint))


def test_empty_or_corrupt_dataset_is_reported(hub):
    put(hub, "owner/empty", {"README.md": "# Soon\n"})
    assert complaint("owner/empty").startswith("data.hub: owner/empty: its files could not be read (")
    put(hub, "owner/broken", shards({"train": [["a"]], "validation": [["b"]]}))
    file = next((hub.root / "owner/broken").rglob("train*"))
    file.write_bytes(file.read_bytes()[:-20])
    start = "data.hub: owner/broken: split train could not be read (ArrowInvalid: Parquet magic bytes"
    assert complaint("owner/broken").startswith(start)


@pytest.mark.parametrize("bad", ["a/b/c", "", "../stories", "https://example.com/x"])
def test_invalid_dataset_name_is_refused(bad):
    with pytest.raises(UserError, match=r"^params\.yaml: data\.hub\.name: "):
        params(bad)


@pytest.fixture
def project(tmp_path, name):
    """Return a folder in which the download stage can run, with the dataset in its params."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    change_params(tmp_path, {"data": {"source": "hub", "max_documents": None, "hub": {**HUB, "name": name}}})
    for name in ("slm", "storygrammar", "stages", "requirements", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_download_counts_dropped_empty_documents(project, hub):
    result = run_stage(project, "download", HF_ENDPOINT=hub.endpoint)
    assert result.returncode == 0, result.stderr
    summary = json.loads((project / "data/corpus/summary.json").read_text())
    assert summary["train"]["documents"] == len(flat("train")) - 1
    assert summary["empty_documents_dropped"] == 1


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_download_exits_after_max_documents(project, hub, kind):
    texts = [os.urandom(2000).hex() for _ in range(5000)]
    name, folder = f"owner/large-{kind}", hub.root / f"owner/large-{kind}/main"
    folder.mkdir(parents=True)
    if kind == "parquet":
        pq.write_table(pa.table({"text": texts}), folder / "train.parquet", row_group_size=500)
    else:
        (folder / "train.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    changes = {"max_documents": 700, "hub": {**HUB, "name": name, "validation_split": None}}
    change_params(project, {"data": changes})
    result = run_stage(project, "download", HF_ENDPOINT=hub.endpoint)
    assert result.returncode == 0, result.stderr
    summary = json.loads((project / "data/corpus/summary.json").read_text())
    assert summary["train"]["documents"] + summary["validation"]["documents"] == 700


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "error: data.hub: http://127.0.0.1:9 could not be reached (ConnectError: ",
        ),
        ({"HF_HUB_OFFLINE": "1"}, "error: data.hub: HF_HUB_OFFLINE is set"),
    ],
)
def test_missing_network_is_one_line_with_a_hint(project, environment, line):
    result = run_stage(project, "download", **environment)
    assert result.returncode == 1
    assert result.stderr.startswith(line)
    assert result.stderr.endswith("; data.source synthetic and files need no network\n")
    assert result.stderr.count("\n") == 1
    assert not (project / "data").exists()


def test_lost_server_keeps_the_old_corpus(hub, project, monkeypatch, capsys):
    texts = [os.urandom(500).hex() for _ in range(3000)]
    put(hub, "owner/dying", shards({"train": [texts[:100], texts], "validation": [["x"]]}))
    change_params(project, {"data": {"hub": {**HUB, "name": "owner/dying"}}})
    (project / "data/corpus").mkdir(parents=True)
    (project / "data/corpus/train.parquet").write_text("the old one")
    hub.bytes_left, hub.comes_back = 1_000_000, False
    monkeypatch.chdir(project)
    # The client waits half a minute between its retries.
    monkeypatch.setattr(time, "sleep", lambda _: None)
    try:
        with pytest.raises(SystemExit) as end:
            run_stages("download")
    finally:
        hub.is_gone = False
    last = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 1
    assert last.startswith("error: data.hub: owner/dying: split train could not be read (")
    assert [path.name for path in (project / "data/corpus").iterdir()] == ["train.parquet"]
    assert (project / "data/corpus/train.parquet").read_text() == "the old one"
