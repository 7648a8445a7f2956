"""Stage download: download or generate the documents of both splits."""

from pathlib import Path

from slm.core.stage import Stage, run_stage
from slm.data.documents import write_corpus
from slm.data.params import DataParams
from slm.data.sources import open_source


def main(stage: Stage) -> None:
    params = stage.load(DataParams)
    documents, origin = open_source(params)
    write_corpus(documents, Path("data/corpus"), origin | {"versions": stage.versions})


if __name__ == "__main__":
    run_stage("download", main)
