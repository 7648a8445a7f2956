"""The report as one page of HTML that needs nothing else: no network, no scripts."""

import struct
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slm.report.card import COMMAND, card
from slm.report.display import DPI, MOST_SURPRISE, VISIBLE, millions, percent, shown, surprise
from slm.report.headlines import headlines, verdict
from slm.report.results import Results
from slm.report.tables import params_table, tables
from slm.results.samples import Inspection

STORIES_SHOWN = 3  # of each temperature
PIXELS_AN_INCH = 100  # of the page; the pictures have more, for screens that do


class Picture(NamedTuple):
    """A PNG inside the page, and its size there."""

    uri: str
    width: int
    height: int


class Span(NamedTuple):
    """A token of a text: how warm its ground is, from 0 to 1, and what one reads on pointing at it."""

    text: str
    heat: float
    tooltip: str
    is_given: bool


def report_page(results: Results) -> str:
    """The whole page. Everything that a model or a file wrote is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        size=millions(results.facts.train.num_params),
        verdict=verdict(results),
        headlines=headlines(results),
        pictures={name: picture(png) for name, png in results.figures.items()},
        tables=tables(results),
        columns={t: stories[:STORIES_SHOWN] for t, stories in results.by_temperature.items()},
        spans=spans(results.inspection),
        card=card(results.facts),
        command=COMMAND,
        params=params_table(results.params),
        versions=results.versions,
    )


def picture(png: bytes) -> Picture:
    """A PNG as part of a page; its header says how many pixels it has."""
    width, height = struct.unpack(">II", png[16:24])
    uri = f"data:image/png;base64,{b64encode(png).decode()}"
    return Picture(uri, width * PIXELS_AN_INCH // DPI, height * PIXELS_AN_INCH // DPI)


def spans(inspection: Inspection) -> list[Span]:
    """The text, token by token, with what the model expected at each place."""
    found = []
    texts, chances = inspection.tokens, inspection.probabilities
    for n, (text, chance, best) in enumerate(zip(texts, chances, inspection.alternatives, strict=True)):
        others = ", ".join(f"“{shown(other)}” {percent(p)}" for other, p in best if other != text)
        tooltip = f"“{shown(text)}” {percent(chance)}\ninstead: {others}"
        heat = surprise(chance) / MOST_SURPRISE
        visible = shown(text, keep="\n").replace("\n", VISIBLE["\n"] + "\n")
        found.append(Span(visible, round(heat, 2), tooltip, n < inspection.given))
    return found
