"""Read and validate the results of the earlier stages for the report."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from slm.core.errors import UserError
from slm.report.card import Facts, read_facts
from slm.report.reading import read_lines, read_result, read_rows
from slm.results.eval import (
    Baseline,
    DatasetMetrics,
    EvalDetails,
    FrequencyLoss,
    PairScore,
    PositionLoss,
)
from slm.results.samples import Inspection, SampleDetails, SampleMetrics, SampleQuality, Story
from slm.results.tokens import TokensDetails

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bytes of a PNG file up to the end of its header, which holds the size.
PNG_HEADER = 33


class Results(NamedTuple):
    """All results in the report. A table is empty if the corpus does not support it."""

    # Raw values of params.yaml, by section.
    params: dict[str, dict[str, Any]]
    facts: Facts
    tokens_details: TokensDetails
    eval_details: EvalDetails
    baselines: list[Baseline]
    by_position: list[PositionLoss]
    by_frequency: list[FrequencyLoss]
    minimal_pairs: list[PairScore]
    # Evaluation on other datasets, by name.
    datasets: dict[str, DatasetMetrics]
    # One row per temperature; `samples` has the metrics at the temperature of the section `sample`.
    sample_quality: list[SampleQuality]
    samples: SampleMetrics
    sample_details: SampleDetails
    stories: list[Story]
    inspection: Inspection
    # Encoded PNGs, by name.
    figures: dict[str, bytes]

    @property
    def ngram(self) -> Baseline | None:
        """Return the n-gram baseline, or None."""
        return next((row for row in self.baselines if row.name.endswith("-gram")), None)

    @property
    def entropy(self) -> Baseline | None:
        """Return the entropy of the text, a lower bound for every model, or None if it is unknown."""
        return next((row for row in self.baselines if row.kind == "bound"), None)

    @property
    def by_temperature(self) -> dict[float, list[Story]]:
        """Return the samples by temperature, both in ascending order."""
        stories: dict[float, list[Story]] = {}
        for story in sorted(self.stories, key=lambda story: (story.temperature, story.sample)):
            stories.setdefault(story.temperature, []).append(story)
        return stories

    @property
    def versions(self) -> list[str]:
        """Return NAME==VERSION of each library that affected a result."""
        facts = self.facts
        details = [self.tokens_details, facts.train_details, self.eval_details, self.sample_details]
        stages = [facts.corpus.versions, *(stage.versions for stage in details)]
        versions = {name: version for stage in stages for name, version in stage.items()}
        return [f"{name}=={versions[name]}" for name in sorted(versions, key=str.casefold)]


def read_results(root: Path, params: dict[str, dict[str, Any]]) -> Results:
    """Read all results of a project. Raises UserError for the first missing or invalid file."""
    reports, data = root / "reports", root / "data"
    details = reports / "details"
    return Results(
        params,
        facts=read_facts(root, root / "models"),
        tokens_details=read_result(details / "tokens.json", TokensDetails),
        eval_details=read_result(details / "eval.json", EvalDetails),
        baselines=read_rows(reports / "baselines.csv", Baseline),
        by_position=read_rows(reports / "by_position.csv", PositionLoss),
        by_frequency=read_rows(reports / "by_frequency.csv", FrequencyLoss),
        minimal_pairs=read_rows(reports / "minimal_pairs.csv", PairScore, allow_empty=True),
        datasets=read_datasets(reports / "datasets", params["evaluate"]["datasets"]),
        sample_quality=read_rows(reports / "eval_samples.csv", SampleQuality),
        samples=read_result(reports / "eval_samples.json", SampleMetrics),
        sample_details=read_result(details / "eval_samples.json", SampleDetails),
        stories=read_lines(data / "samples.jsonl", Story),
        inspection=read_result(data / "inspection.json", Inspection),
        figures=read_figures(reports / "figures"),
    )


def read_datasets(folder: Path, names: Iterable[str]) -> dict[str, DatasetMetrics]:
    """Read the metrics of these datasets. Files of other datasets in the folder are ignored."""
    return {name: read_result(folder / f"{name}.json", DatasetMetrics, key=name) for name in names}


def read_figures(folder: Path) -> dict[str, bytes]:
    """Return the encoded PNGs of a folder by name. Raises UserError if one is invalid or there are none."""
    figures = {path: path.read_bytes() for path in sorted(folder.glob("*.png"))}
    for path, png in figures.items():
        if not png.startswith(PNG_SIGNATURE) or len(png) < PNG_HEADER:
            raise UserError(f"{path}: not a PNG; `dvc repro` writes it again")
    if not figures:
        raise UserError(f"{folder}: no figures; `dvc repro` plots them")
    return {path.stem: png for path, png in figures.items()}
