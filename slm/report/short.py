"""The report in short, as Markdown for a pull request."""

from slm.core.markdown import quote, table
from slm.report.display import millions
from slm.report.headlines import headlines, verdict
from slm.report.results import Results
from slm.results.samples import Story

PICTURES = ("loss", "bits_per_byte", "quality", "heat")
N_STORIES = 2


def report_in_short(results: Results) -> str:
    """The verdict, the headline numbers, some pictures and two texts at the temperature of the samples."""
    numbers = [(name, f"**{value}**", meaning) for value, name, meaning in headlines(results)]
    pictures = [f"![{name}](figures/{name}.png)" for name in PICTURES if name in results.figures]
    stories = results.by_temperature.get(results.params["sample"]["temperature"], [])
    return "\n\n".join(
        [
            f"# A language model of {millions(results.facts.train.num_params)} parameters",
            verdict(results),
            table(["", "", ""], numbers, align="lrl"),
            "\n".join(pictures),
            "## What it writes",
            "\n\n---\n\n".join(map(_quoted, stories[:N_STORIES])),
            "All of it: [report.html](report.html), one page that opens offline.\n",
        ]
    )


def _quoted(story: Story) -> str:
    return quote(story.text if story.ended else f"{story.text} […]")
