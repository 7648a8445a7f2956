"""Stage 1, download: bring the documents of both splits to data/corpus/."""

from pathlib import Path

from slm.corpus.documents import write_corpus
from slm.corpus.params import DataParams
from slm.corpus.sources import documents, origin
from slm.params import run_stage


def main() -> None:
    params = DataParams.load()
    write_corpus(documents(params), Path("data/corpus"), origin(params))


if __name__ == "__main__":
    run_stage(main)
