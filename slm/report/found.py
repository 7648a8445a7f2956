"""All that the earlier stages found, for the report."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from slm.core.errors import UserError
from slm.core.files import read_json
from slm.data.summary import Corpus, read_summary
from slm.report import schema as kinds
from slm.report.reading import read_lines, read_result, read_table

PNG_BEGINS, PNG_HEADER = b"\x89PNG\r\n\x1a\n", 33  # bytes


class Found(NamedTuple):
    """What a report is made of; tables that a corpus does not have are empty."""

    params: dict[str, dict[str, Any]]  # by section
    corpus: Corpus
    tokens: kinds.Tokens
    network: kinds.Network
    training: kinds.Training
    evaluation: kinds.Evaluation
    baselines: list[kinds.Baseline]
    by_position: list[kinds.PositionLoss]
    by_frequency: list[kinds.FrequencyLoss]
    pairs: list[kinds.PairScore]
    scores: dict[str, kinds.Score]
    quality: list[kinds.Quality]
    story_quality: kinds.StoryQuality
    stories: list[kinds.Story]
    insight: kinds.Insight
    figures: dict[str, bytes]  # PNG, by name

    def baseline(self, name: str) -> kinds.Baseline | None:
        """The baseline whose name ends so, if there is one."""
        return next((baseline for baseline in self.baselines if baseline.name.endswith(name)), None)

    @property
    def bound(self) -> kinds.Baseline | None:
        """The entropy of the text, which no model can go below, where it is known."""
        return next((baseline for baseline in self.baselines if baseline.kind == "bound"), None)

    @property
    def by_temperature(self) -> dict[float, list[kinds.Story]]:
        """The stories of each temperature, in rising order, by their numbers."""
        found: dict[float, list[kinds.Story]] = {}
        for story in sorted(self.stories, key=lambda story: (story.temperature, story.sample)):
            found.setdefault(story.temperature, []).append(story)
        return found

    @property
    def made_with(self) -> list[str]:
        """Libraries that any stage computed with, and their versions."""
        results = [self.corpus, self.tokens, self.training, self.evaluation, self.story_quality]
        results += self.scores.values()
        return sorted({line for result in results for line in result.made_with}, key=str.casefold)


def read_found(root: Path, params: dict[str, dict[str, Any]]) -> Found:
    """Read it all. Raises UserError with one line for the first file that is missing or wrong."""
    reports, data = root / "reports", root / "data"
    return Found(
        params,
        corpus=read_summary(data / "corpus/summary.json"),
        tokens=read_result(reports / "tokens.json", kinds.Tokens),
        network=read_result(root / "models/config.json", kinds.Network),
        training=read_result(reports / "train.json", kinds.Training),
        evaluation=read_result(reports / "eval.json", kinds.Evaluation),
        baselines=read_table(reports / "baselines.csv", kinds.Baseline),
        by_position=read_table(reports / "by_position.csv", kinds.PositionLoss),
        by_frequency=read_table(reports / "by_frequency.csv", kinds.FrequencyLoss),
        pairs=read_table(reports / "minimal_pairs.csv", kinds.PairScore, may_be_empty=True),
        scores=read_scores(reports / "datasets", params["evaluate"]["datasets"]),
        quality=read_table(reports / "eval_samples.csv", kinds.Quality),
        story_quality=read_result(reports / "eval_samples.json", kinds.StoryQuality),
        stories=read_lines(data / "samples.jsonl", kinds.Story),
        insight=read_result(data / "inspection.json", kinds.Insight),
        figures=read_pictures(reports / "figures"),
    )


def read_scores(folder: Path, names: Iterable[str]) -> dict[str, kinds.Score]:
    """What each further text's file says under its name; one that is no longer asked for may be there too."""
    found = {}
    for name in names:
        path = folder / f"{name}.json"
        values = read_json(path)
        found[name] = kinds.Score.check(values.get(name) if isinstance(values, dict) else values, path)
    return found


def read_pictures(folder: Path) -> dict[str, bytes]:
    """The PNGs of a folder by name, still encoded. Raises UserError if there are none, or one is none."""
    found = {path: path.read_bytes() for path in sorted(folder.glob("*.png"))}
    for path, png in found.items():
        if not png.startswith(PNG_BEGINS) or len(png) < PNG_HEADER:
            raise UserError(f"{path}: not a PNG; `dvc repro` makes it anew")
    if not found:
        raise UserError(f"{folder}: no pictures; `dvc repro` makes them")
    return {path.stem: png for path, png in found.items()}
