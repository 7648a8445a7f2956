"""The report: one HTML page without network access or scripts, and a short version in Markdown."""

import struct
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slm.core.markdown import quote, table
from slm.report.card import COMMAND, card
from slm.report.display import DPI, MAX_SURPRISAL, VISIBLE, millions, percent, shorten, surprisal, visible
from slm.report.results import Results
from slm.report.summary import headlines, params_tables, tables, verdict
from slm.results.samples import Inspection, Story

# Samples of each temperature on the page, and samples in the Markdown.
N_PAGE_SAMPLES, N_MARKDOWN_SAMPLES = 3, 2
# Longest sample and token in characters: a token can be as long as the longest word of the corpus.
MAX_SAMPLE, MAX_TOKEN = 20_000, 200
MARKDOWN_FIGURES = {
    "loss": "Training and validation loss",
    "bits_per_byte": "Bits per byte of the model and the baselines",
    "samples": "Samples by temperature",
    "token_probabilities": "Probability of each token of a sample",
}
# CSS pixels per inch of a figure; its pixels are finer, for high-resolution screens.
CSS_DPI = 100


class Image(NamedTuple):
    """A PNG as a data URI, with its size in CSS pixels."""

    uri: str
    width: int
    height: int


class TokenSpan(NamedTuple):
    """A token of a text: the strength of its background from 0 to 1, and its tooltip."""

    text: str
    heat: float
    tooltip: str
    is_given: bool


def html_report(results: Results) -> str:
    """Return the whole page. All text from a model or a file is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    samples = {t: list(map(_cut, s[:N_PAGE_SAMPLES])) for t, s in results.by_temperature.items()}
    return environment.get_template("page.html").render(
        size=millions(results.facts.train.num_params),
        verdict=verdict(results),
        headlines=headlines(results),
        figures={name: image(png) for name, png in results.figures.items()},
        tables=tables(results),
        samples=samples,
        spans=token_spans(results.inspection),
        card=card(results.facts),
        command=COMMAND,
        params=params_tables(results.params),
        versions=results.versions,
    )


def image(png: bytes) -> Image:
    """Return a PNG as part of the page; its header holds its size in pixels."""
    width, height = struct.unpack(">II", png[16:24])
    uri = f"data:image/png;base64,{b64encode(png).decode()}"
    return Image(uri, width * CSS_DPI // DPI, height * CSS_DPI // DPI)


def token_spans(inspection: Inspection) -> list[TokenSpan]:
    """Return each token of the inspected text with its probability and the most probable alternatives."""
    spans = []
    tokens = zip(inspection.tokens, inspection.probabilities, inspection.alternatives, strict=True)
    for n, (token, probability, best) in enumerate(tokens):
        others = ", ".join(f"“{_name(other)}” {percent(p)}" for other, p in best if other != token)
        tooltip = f"“{_name(token)}” {percent(probability)}\nalternatives: {others}"
        text = visible(shorten(token, MAX_TOKEN), keep="\n").replace("\n", VISIBLE["\n"] + "\n")
        heat = round(surprisal(probability) / MAX_SURPRISAL, 2)
        spans.append(TokenSpan(text, heat, tooltip, n < inspection.given))
    return spans


def markdown_report(results: Results) -> str:
    """Return the verdict, the headline metrics, some figures and samples for a pull request."""
    numbers = [(line.name, f"**{line.value}**", line.meaning) for line in headlines(results)]
    figures = [
        f"![{title}](figures/{name}.png)"
        for name, title in MARKDOWN_FIGURES.items()
        if name in results.figures
    ]
    samples = results.by_temperature.get(results.params["sample"]["temperature"], [])
    details = results.eval_details
    return "\n\n".join(
        [
            f"# A language model with {millions(results.facts.train.num_params)} parameters",
            verdict(results),
            table(["metric", "value", "meaning"], numbers, align="lrl"),
            f"Evaluated on {details.tokens:,} tokens ({details.bytes:,} bytes) of {details.documents:,} "
            "held-out documents.",
            "\n".join(figures),
            "## Samples",
            "\n\n---\n\n".join(_quoted(_cut(story)) for story in samples[:N_MARKDOWN_SAMPLES]),
            "[report.html](report.html) has all results, on one page that opens offline.",
            f"Versions: {', '.join(results.versions)}.\n",
        ]
    )


def _name(token: str) -> str:
    return visible(shorten(token, MAX_TOKEN))


def _cut(story: Story) -> Story:
    """Return a sample that fits on the page; one that is cut has not ended."""
    if len(story.text) <= MAX_SAMPLE:
        return story
    return story.model_copy(update={"text": story.text[:MAX_SAMPLE], "ended": False})


def _quoted(story: Story) -> str:
    return quote(story.text if story.ended else f"{story.text} […]")
