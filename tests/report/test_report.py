"""Tests of the report: it is self-contained, complete, and escapes all text."""

import json
import re
from contextlib import chdir
from html.parser import HTMLParser

import pytest

from slm.core.errors import UserError
from slm.report.page import MAX_SAMPLE, MAX_TOKEN, html_report, markdown_report
from slm.report.results import read_results
from stages import plot
from tests.browser import dom_of, needs_browser
from tests.result_files import HOSTILE, PARAMS, with_datasets, write, write_figure, write_results


def plot_and_read(folder):
    """Run the stage plot in a folder, and return its results."""
    with chdir(folder):
        plot.main(None)
    names = [path.stem for path in (folder / "reports/datasets").glob("*.json")]
    return read_results(folder, with_datasets(*names))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return plot_and_read(write_results(tmp_path_factory.mktemp("known"), known=True))


@pytest.fixture(scope="module")
def fewer_results(tmp_path_factory):
    """Return results without n-grams, entropy, minimal pairs, consistency checker and other datasets."""
    return plot_and_read(write_results(tmp_path_factory.mktemp("less"), known=False))


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text without style sheets."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._inside = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += "" if self._inside[-1:] == ["style"] else data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


PROBE = """<script>
addEventListener("load", () => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  document.body.dataset.probe = JSON.stringify({
    images: all("img").map((image) => image.naturalWidth),
    clipped: all("img").map((image) => image.clientWidth - image.parentElement.clientWidth),
    tables: all("table").map((table) => table.rows.length),
    titles: all("figure h3").map((title) => title.textContent),
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
    overflow: document.documentElement.scrollWidth - innerWidth,
    background: getComputedStyle(document.body).backgroundColor,
  });
});
</script>"""


def run_probe(html, folder, width, *options):
    """Return what PROBE reports of the page in a browser. Its policy is extended to allow this script."""
    policy = "default-src 'none'; "
    assert policy in html
    probed = html.replace(policy, f"{policy}script-src 'unsafe-inline'; ").replace(
        "</body>", PROBE + "</body>"
    )
    (folder / "page.html").write_text(probed, encoding="utf-8")
    dom = dom_of(folder / "page.html", folder / "profile", *options, f"--window-size={width},900")
    return json.loads(Page(dom).all("body")[0]["data-probe"])


@needs_browser
def test_browser_shows_all_figures_and_tables_without_requests(results, tmp_path):
    page = run_probe(html_report(results), tmp_path, 1200)
    assert len(page["images"]) == len(page["titles"]) == 8
    assert min(page["images"]) == 960
    assert len(page["tables"]) == 6 + len(PARAMS)
    assert min(page["tables"]) > 1
    assert page["requests"] == []
    assert page["overflow"] <= 0
    assert page["background"] == "rgb(255, 255, 255)"


@needs_browser
def test_narrow_dark_page_does_not_overflow(results, tmp_path):
    page = run_probe(html_report(results), tmp_path, 500, "--blink-settings=preferredColorScheme=0")
    assert page["overflow"] <= 0
    assert max(page["clipped"]) <= 0
    assert page["background"] == "rgb(23, 23, 23)"


def test_html_report_escapes_all_text(results):
    page = Page(html_report(results))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "base", "form"}
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name in ("href", "srcset")]
        assert attrs.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    policy = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    # Samples, complaints, a token, a minimal pair and a prompt.
    assert page.text.count(HOSTILE) == 6 + 6 + 1 + 1 + 1
    assert sum(HOSTILE in span.get("title", "") for span in page.all("span")) == 4


def test_html_report_has_samples_and_complaints_by_temperature(results):
    page = Page(html_report(results))
    order = re.findall(r"(\d) at ([\d.]+)\. Once", page.text)
    assert order == [(str(n), t) for t in ("0.5", "1.0") for n in (1, 2, 3)]
    assert [attrs.get("class") for attrs in page.all("p")].count("complaint") == 6
    # The first sample of each temperature has not ended.
    assert page.text.count("[…]") == 2


def test_html_report_has_token_probabilities_and_alternatives(results):
    spans = [span for span in Page(html_report(results)).all("span") if "title" in span]
    assert [span["style"] for span in spans] == ["--p:0.1", "--p:1.0", "--p:0.2", "--p:0.0"]
    assert spans[0]["title"] == f"“Once” 50%\nalternatives: “{HOSTILE}” 25%"
    assert [span.get("class") for span in spans] == ["prompt", None, None, None]


def test_html_report_omits_unknown_results(results, fewer_results):
    assert results.figures.keys() - fewer_results.figures.keys() == {"minimal_pairs"}
    more, less = (Page(html_report(f)).text for f in (results, fewer_results))
    for words in (
        "gap closed",
        "pass the consistency checker",
        "Minimal pairs",
        "Other datasets",
        "consistency",
    ):
        assert words in more
        assert words not in less
    assert "None" not in less


def test_html_report_has_all_params_and_versions(results):
    text = Page(html_report(results)).text
    for section, keys in PARAMS.items():
        assert section in text
        for key, value in keys.items():
            assert key in text
            if isinstance(value, bool) or value is None:
                assert {True: "true", False: "false", None: "null"}[value] in text
    assert "hub.name" in text
    assert "Pillow==1.0, torch==2.0" in text


def test_reports_are_deterministic(results):
    assert html_report(results) == html_report(results)
    assert markdown_report(results) == markdown_report(results)


def test_markdown_report_has_headlines_figures_and_two_samples(results):
    page = markdown_report(results)
    assert page.startswith("# A language model with 5,000 parameters\n\nThe model closes 75% of the gap")
    assert "| bits per byte | **1.000** | 95% CI over documents: 0.900 to 1.100" in page
    figures = re.findall(r"!\[.*\]\(figures/(\w+)\.png\)", page)
    assert figures == ["loss", "bits_per_byte", "samples", "token_probabilities"]
    assert set(figures) <= set(results.figures)
    quoted = [line.removeprefix("> ") for line in page.splitlines() if line.startswith("> ")]
    assert len(quoted) == 2 * 3
    assert quoted[0].startswith(r"1 at 1.0. Once \*there\* was \<script src='http://localhost/x.js'\>")
    assert quoted[1] == "\\# a \"cat\" \\& 'dog'."
    assert quoted[2] == r"1\. \`It\` ended \| \$here\$. \[…\]"
    assert quoted[3].startswith("2 at 1.0. ")


@pytest.mark.parametrize("name", [
    "data/corpus/summary.json", "data/inspection.json", "data/samples.jsonl", "models/config.json",
    "reports/baselines.csv", "reports/details/eval.json", "reports/details/train.json",
    "reports/by_frequency.csv", "reports/by_position.csv", "reports/eval.json",
    "reports/eval_samples.csv", "reports/eval_samples.json", "reports/tokens.json", "reports/train.json",
])  # fmt: skip
def test_read_results_names_a_missing_file(tmp_path, name):
    (write_results(tmp_path, known=True) / name).unlink()
    with pytest.raises(UserError) as error:
        read_results(tmp_path, PARAMS)
    assert str(error.value) == f"{tmp_path / name}: no such file; `dvc repro` makes it"


def test_read_results_rejects_a_dataset_under_another_name(tmp_path):
    write_results(tmp_path, known=True)
    write(tmp_path, "reports/datasets/wikitext.json", {"lambada": {"bits_per_byte": 2.5}})
    with pytest.raises(UserError, match=r"wikitext\.json: wikitext: must be a mapping"):
        read_results(tmp_path, with_datasets("wikitext"))


def test_read_results_ignores_datasets_not_in_params(tmp_path):
    write_results(tmp_path, known=True)
    write_figure(tmp_path)
    assert read_results(tmp_path, with_datasets("lambada")).datasets.keys() == {"lambada"}
    assert read_results(tmp_path, PARAMS).datasets == {}


def test_read_results_rejects_missing_or_invalid_figures(tmp_path):
    write_results(tmp_path, known=True)
    with pytest.raises(UserError, match=r"reports/figures: no figures; `dvc repro` plots them"):
        read_results(tmp_path, PARAMS)
    write(tmp_path, "reports/figures/loss.png", "not a PNG")
    with pytest.raises(UserError, match=r"reports/figures/loss\.png: not a PNG"):
        read_results(tmp_path, PARAMS)


def test_html_report_shortens_very_long_tokens_and_samples(results):
    long = "x" * 10 * MAX_SAMPLE
    inspection = results.inspection.model_copy(update={"tokens": [long, *results.inspection.tokens[1:]]})
    stories = [story.model_copy(update={"text": long, "ended": True}) for story in results.stories]
    page = Page(html_report(results._replace(inspection=inspection, stories=stories))).text
    assert max(map(len, re.findall("x+", page))) == MAX_SAMPLE
    assert "x" * (MAX_TOKEN - 1) + "…" in page
    assert page.count("[…]") == 6
