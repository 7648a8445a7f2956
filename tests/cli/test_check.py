"""`slm check`: params whose files are missing. tests/core/test_config.py tests wrong keys and values."""

import pytest
from ruamel.yaml import YAML

from slm.cli.check import check
from slm.core.config import read_yaml
from slm.core.errors import UserError
from tests.project import ROOT


def test_missing_files_are_named_with_their_params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = read_yaml(ROOT / "params.yaml")
    params["data"]["files"] = {"train": "train.txt", "validation": "data/none"}
    params["train"]["init_from"] = "data/user/gpt2"
    params["evaluate"]["datasets"] = {"wiki": {"file": "wiki.txt", "metric": "word_perplexity"}}
    run = {"file": "mine.jsonl", "tasks": None, "seed": 1, "max_steps": 1, "batch_size": 1}
    run |= {"learning_rate": 1e-3, "num_eval_prompts": 1, "temperature": 0.0}
    params["sft"] = {"mine": run}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    (tmp_path / "train.txt").touch()
    with pytest.raises(UserError) as error:
        check(tmp_path / "params.yaml")
    assert str(error.value).splitlines() == [
        f"{tmp_path}/params.yaml: train.init_from: no such file or folder: data/user/gpt2",
        f"{tmp_path}/params.yaml: evaluate.datasets.wiki.file: no such file or folder: wiki.txt",
        f"{tmp_path}/params.yaml: sft.mine.file: no such file or folder: mine.jsonl",
    ]
    for name in ("data/user/gpt2", "wiki.txt", "mine.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    check(tmp_path / "params.yaml")
