"""The report is one page that opens anywhere, says what was results, and trusts no text in it."""

import json
import re
from contextlib import chdir
from html.parser import HTMLParser

import pytest

from slm.core.errors import UserError
from slm.report.page import report_page
from slm.report.results import read_results
from slm.report.short import report_in_short
from slm.report.tables import tables
from stages import plot
from tests.browser import dom_of, needs_browser
from tests.findings import HOSTILE, PARAMS, with_datasets, write, write_figure, write_results


def read(folder):
    """What was found in a folder, after its pictures are drawn."""
    with chdir(folder):
        plot.main(None)  # which asks nothing of dvc.yaml
    names = [path.stem for path in (folder / "reports/datasets").glob("*.json")]
    return read_results(folder, with_datasets(*names))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return read(write_results(tmp_path_factory.mktemp("known"), known=True))


@pytest.fixture(scope="module")
def fewer_results(tmp_path_factory):
    """Of a corpus without n-grams, entropy, pairs, a checker or further texts."""
    return read(write_results(tmp_path_factory.mktemp("less"), known=False))


class Page(HTMLParser):
    """The elements of a page with their attributes, and all its text but that of styles."""

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
  document.body.dataset.found = JSON.stringify({
    pictures: all("img").map((image) => image.naturalWidth),
    cut: all("img").map((image) => image.clientWidth - image.parentElement.clientWidth),
    tables: all("table").map((table) => table.rows.length),
    titles: all("figure h3").map((title) => title.textContent),
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
    overflow: document.documentElement.scrollWidth - innerWidth,
    paper: getComputedStyle(document.body).backgroundColor,
  });
});
</script>"""


def seen_in_browser(html, folder, width, *options):
    """What the probe finds in the page; the policy allows what it did, and scripts of the page itself."""
    policy = "default-src 'none'; "
    assert policy in html
    probed = html.replace(policy, f"{policy}script-src 'unsafe-inline'; ").replace(
        "</body>", PROBE + "</body>"
    )
    (folder / "page.html").write_text(probed, encoding="utf-8")
    dom = dom_of(folder / "page.html", folder / "profile", *options, f"--window-size={width},900")
    return json.loads(Page(dom).all("body")[0]["data-found"])


@needs_browser
def test_a_browser_shows_all_pictures_and_tables_and_asks_for_nothing_else(results, tmp_path):
    seen = seen_in_browser(report_page(results), tmp_path, 1200)
    assert len(seen["pictures"]) == len(seen["titles"]) == 8
    assert min(seen["pictures"]) == 960
    assert len(seen["tables"]) == 6 + len(PARAMS)
    assert min(seen["tables"]) > 1
    assert seen["requests"] == []
    assert seen["overflow"] <= 0
    assert seen["paper"] == "rgb(255, 255, 255)"


@needs_browser
def test_on_a_narrow_screen_in_the_dark_nothing_hangs_over_the_edge(results, tmp_path):
    seen = seen_in_browser(report_page(results), tmp_path, 500, "--blink-settings=preferredColorScheme=0")
    assert seen["overflow"] <= 0
    assert max(seen["cut"]) <= 0
    assert seen["paper"] == "rgb(23, 23, 23)"


def test_no_text_of_a_model_or_a_file_becomes_part_of_the_page(results):
    page = Page(report_page(results))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "base", "form"}
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name in ("href", "srcset")]
        assert attrs.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    policy = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert page.text.count(HOSTILE) == 6 + 6 + 1 + 1 + 1  # stories, complaints, a token, a pair, a prompt
    assert sum(HOSTILE in span.get("title", "") for span in page.all("span")) == 4


def test_each_temperature_has_its_first_three_stories_with_what_is_wrong_with_them(results):
    page = Page(report_page(results))
    order = re.findall(r"(\d) at ([\d.]+)\. Once", page.text)
    assert order == [(str(n), t) for t in ("0.5", "1.0") for n in (1, 2, 3)]
    assert [attrs.get("class") for attrs in page.all("p")].count("complaint") == 6
    assert page.text.count("[…]") == 2  # the first of each did not end


def test_each_token_says_how_likely_it_was_and_what_else_was(results):
    spans = [span for span in Page(report_page(results)).all("span") if "title" in span]
    assert [span["style"] for span in spans] == ["--p:0.1", "--p:1.0", "--p:0.2", "--p:0.0"]
    assert spans[0]["title"] == f"“Once” 50%\ninstead: “{HOSTILE}” 25%"
    assert [span.get("class") for span in spans] == ["given", None, None, None]


def test_what_is_not_known_of_a_corpus_is_not_there(results, fewer_results):
    assert results.figures.keys() - fewer_results.figures.keys() == {"pairs"}
    more, less = (Page(report_page(f)).text for f in (results, fewer_results))
    for words in (
        "gap closed",
        "minimal pairs",
        "consistent",
        "Right or wrong",
        "Other texts",
        "contradict nothing",
    ):
        assert words in more
        assert words not in less
    assert "None" not in less


def test_tables_hold_the_numbers_and_no_empty_columns(results, fewer_results):
    more, less = tables(results), tables(fewer_results)
    assert more.keys() - less.keys() == {"pairs", "scores"}
    assert more["scores"] == (["text", "bits a byte", "last words right"], [["lambada", "2.500", "12%"]])
    assert more["baselines"].rows[1] == ["5-gram", "1.6000", "1.60 ×"]
    assert more["quality"].header[3] == "contradict nothing"
    assert more["quality"].rows[0] == ["0.5", "4", "100%", "50%", "50%", "0%", "25%"]
    assert less["quality"].rows[0] == ["0.5", "4", "100%", "50%", "0%", "25%"]


def test_every_setting_and_version_is_there(results):
    text = Page(report_page(results)).text
    for section, keys in PARAMS.items():
        assert section in text
        for key, value in keys.items():
            assert key in text
            if isinstance(value, bool) or value is None:
                assert {True: "true", False: "false", None: "null"}[value] in text
    assert "hub.name" in text
    assert "Pillow==1.0, torch==2.0" in text


def test_the_same_findings_are_the_same_page(results):
    assert report_page(results) == report_page(results)
    assert report_in_short(results) == report_in_short(results)


def test_in_short_it_is_headlines_pictures_that_are_there_and_two_texts(results):
    page = report_in_short(results)
    assert page.startswith("# A language model of 5,000 parameters\n\nIt has gone 75% of the way from")
    assert "| bits a byte | **1.000** | 0.900 to 1.100" in page
    pictures = re.findall(r"!\[.*\]\(figures/(\w+)\.png\)", page)
    assert pictures == ["loss", "bits_per_byte", "quality", "heat"]
    assert set(pictures) <= set(results.figures)
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
def test_a_missing_result_is_one_line_that_names_it(tmp_path, name):
    (write_results(tmp_path, known=True) / name).unlink()
    with pytest.raises(UserError) as error:
        read_results(tmp_path, PARAMS)
    assert str(error.value) == f"{tmp_path / name}: no such file; `dvc repro` makes it"


def test_a_score_that_is_not_under_its_name_is_refused(tmp_path):
    write_results(tmp_path, known=True)
    write(tmp_path, "reports/datasets/wikitext.json", {"lambada": {"bits_per_byte": 2.5}})
    with pytest.raises(UserError, match=r"wikitext\.json: wikitext: must be a JSON object"):
        read_results(tmp_path, with_datasets("wikitext"))


def test_a_score_that_is_no_longer_asked_for_is_left_out(tmp_path):
    write_results(tmp_path, known=True)
    write_figure(tmp_path)
    assert read_results(tmp_path, with_datasets("lambada")).datasets.keys() == {"lambada"}
    assert read_results(tmp_path, PARAMS).datasets == {}


def test_without_pictures_there_is_no_report(tmp_path):
    write_results(tmp_path, known=True)
    with pytest.raises(UserError, match=r"reports/figures: no figures; `dvc repro` plots them"):
        read_results(tmp_path, PARAMS)
    write(tmp_path, "reports/figures/loss.png", "no picture")
    with pytest.raises(UserError, match=r"reports/figures/loss\.png: not a PNG"):
        read_results(tmp_path, PARAMS)
