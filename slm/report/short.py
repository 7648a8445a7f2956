"""The report in short, as Markdown for a pull request."""

from slm.core.markdown import quote, table
from slm.report.found import Found
from slm.report.headlines import headlines, millions, verdict
from slm.report.schema import Story

PICTURES = ("loss", "bits_per_byte", "quality", "heat")
N_STORIES = 2


def report_in_short(found: Found) -> str:
    """The verdict, the headline numbers, some pictures and two texts at the temperature of the samples."""
    numbers = [(name, f"**{value}**", meaning) for value, name, meaning in headlines(found)]
    pictures = [f"![{name}](figures/{name}.png)" for name in PICTURES if name in found.figures]
    stories = found.by_temperature.get(found.params["sample"]["temperature"], [])
    return "\n\n".join(
        [
            f"# A language model of {millions(found.training.parameters)} parameters",
            verdict(found),
            table(["", "", ""], numbers, align="lrl"),
            "\n".join(pictures),
            "## What it writes",
            "\n\n---\n\n".join(map(_quoted, stories[:N_STORIES])),
            "All of it: [report.html](report.html), one page that opens offline.\n",
        ]
    )


def _quoted(story: Story) -> str:
    return quote(story.text if story.ended else f"{story.text} […]")
