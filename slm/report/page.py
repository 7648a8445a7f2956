"""The report: one self-contained HTML page without scripts, and a short version in Markdown."""

import struct
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slm.generate.markdown import quote, table
from slm.report.card import card_entries
from slm.report.display import DPI, MAX_SURPRISAL, VISIBLE, millions, percent, shorten, surprisal, visible
from slm.report.results import Results
from slm.report.summary import headlines, params_tables, tables, verdict
from slm.results.samples import Inspection, Story

# Number of samples per temperature in the HTML report, and of samples in the Markdown report.
N_PAGE_SAMPLES, N_MARKDOWN_SAMPLES = 3, 2
# Maximum length of a sample and of a token, in characters. A token can be as long as a word of the corpus.
MAX_SAMPLE, MAX_TOKEN = 20_000, 200
MARKDOWN_FIGURES = {
    "loss": "Training and validation loss",
    "bits_per_byte": "Bits per byte of the model and the baselines",
    "samples": "Sample quality by temperature",
    "token_probabilities": "Token probabilities of a sample",
}
# CSS pixels per inch of a figure. They are fewer than its DPI, so it stays sharp on HiDPI screens.
CSS_DPI = 100
REPRODUCE_COMMAND = (
    "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt && dvc repro"
)


class Image(NamedTuple):
    """A PNG as a data URI, with its size in CSS pixels."""

    uri: str
    width: int
    height: int


class TokenSpan(NamedTuple):
    """A token of a text, with the opacity of its background from 0 to 1 and its tooltip."""

    text: str
    heat: float
    tooltip: str
    is_prompt: bool


def html_report(results: Results) -> str:
    """Return the HTML report. All text from a model or a file is escaped."""
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
        has_consistency=results.samples.consistency is not None,
        spans=token_spans(results.inspection),
        card=card_entries(results.facts),
        command=REPRODUCE_COMMAND,
        params=params_tables(results.params),
        versions=results.versions,
    )


def image(png: bytes) -> Image:
    """Return a PNG as a data URI, with its size in CSS pixels."""
    # The PNG header holds width and height as big-endian 32-bit integers.
    width, height = struct.unpack(">II", png[16:24])
    uri = f"data:image/png;base64,{b64encode(png).decode()}"
    return Image(uri, width * CSS_DPI // DPI, height * CSS_DPI // DPI)


def token_spans(inspection: Inspection) -> list[TokenSpan]:
    """Return the tokens of the inspected text with their probabilities and most probable alternatives."""
    spans = []
    tokens = zip(inspection.tokens, inspection.probabilities, inspection.alternatives, strict=True)
    for n, (token, probability, alternatives) in enumerate(tokens):
        others = ", ".join(f"“{_label(other)}” {percent(p)}" for other, p in alternatives if other != token)
        tooltip = f"“{_label(token)}” {percent(probability)}\nalternatives: {others}"
        # Keep the line breaks of the text, each after its sign.
        text = visible(shorten(token, MAX_TOKEN), keep="\n").replace("\n", VISIBLE["\n"] + "\n")
        heat = round(surprisal(probability) / MAX_SURPRISAL, 2)
        spans.append(TokenSpan(text, heat, tooltip, n < inspection.given))
    return spans


def markdown_report(results: Results) -> str:
    """Return the verdict, the headline metrics, some figures and samples for a pull request."""
    metrics = [(line.name, f"**{line.value}**", line.meaning) for line in headlines(results)]
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
            table(["metric", "value", "meaning"], metrics, align="lrl"),
            f"Evaluated on {details.tokens:,} tokens ({details.bytes:,} bytes) of {details.documents:,} "
            "held-out documents.",
            "\n".join(figures),
            "## Samples",
            "\n\n---\n\n".join(_quote(_cut(story)) for story in samples[:N_MARKDOWN_SAMPLES]),
            "[report.html](report.html) has all results on one page that works offline.",
            f"Versions: {', '.join(results.versions)}.\n",
        ]
    )


def _label(token: str) -> str:
    """Return a token as one line of limited length."""
    return visible(shorten(token, MAX_TOKEN))


def _cut(story: Story) -> Story:
    """Return a sample of at most MAX_SAMPLE characters; a cut sample counts as not ended."""
    if len(story.text) <= MAX_SAMPLE:
        return story
    return story.model_copy(update={"text": story.text[:MAX_SAMPLE], "ended": False})


def _quote(story: Story) -> str:
    """Return a sample as a Markdown quotation, with […] if it has not ended."""
    return quote(story.text if story.ended else f"{story.text} […]")
