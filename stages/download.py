"""Stage 1, download: bring the documents of both splits to data/corpus/."""

from pathlib import Path

from slm.corpus.documents import write_corpus
from slm.corpus.params import DataParams
from slm.corpus.sources import open_source
from slm.params import run_stage


def main() -> None:
    params = DataParams.load()
    documents, origin = open_source(params)
    write_corpus(documents, Path("data/corpus"), origin)


if __name__ == "__main__":
    run_stage(main)
