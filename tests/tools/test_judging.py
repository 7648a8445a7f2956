"""Tests of human judging: sheets are blind and work in a browser, and verdicts are counted."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from dvc.cli import main as dvc

from slm.core.config import validate
from slm.core.errors import UserError
from tests.browser import dom_of, needs_browser
from tests.pipeline import enter, start_pipeline
from tests.project import run_module
from tests.tiny import SAMPLE
from tools.judging import Tally, Verdicts, count, make_sheet, read_verdicts, summarize

# Stories per temperature.
N_STORIES = 12
WRITE_STORIES = """
import json
from pathlib import Path
from ruamel.yaml import YAML

hero = YAML(typ="safe").load(Path("params.yaml"))["model"]["hero"]
texts = [f"{hero}. Story {n}." for n in range(N_STORIES)]
texts[3] = f"{hero}. <b>The & end</b></script><!-- ünï\\u2028code SHEET"
lines = [
    json.dumps({"temperature": t, "sample": n, "text": f"{text} At {t}.", "ended": True}, ensure_ascii=False)
    for t in (0.6, 1.0)
    for n, text in enumerate(texts)
]
Path("data").mkdir(exist_ok=True)
Path("data/samples.jsonl").write_text("\\n".join(lines) + "\\n", encoding="utf-8")
""".replace("N_STORIES", str(N_STORIES))
PIPELINE = {
    "stages": {
        "eval_samples": {
            "cmd": "python write.py",
            "deps": ["write.py"],
            "params": ["model"],
            "outs": ["data/samples.jsonl"],
        }
    }
}
PARAMS = {"model": {"hero": "Sue"}, "sample": {**SAMPLE, "temperature": 0.6}}


@pytest.fixture(scope="module")
def repository_once(tmp_path_factory):
    """Create a repository whose stories are about Sue, with an experiment `bobs` about Bob."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "write.py").write_text(WRITE_STORIES, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        start_pipeline(folder, PIPELINE, PARAMS)
        assert dvc(["exp", "run", "-q", "-n", "bobs", "-S", "model.hero=Bob"]) == 0
    return folder


@pytest.fixture
def repository(repository_once, monkeypatch):
    """Enter the repository. Its workspace has the stories of `bobs`."""
    enter(repository_once, monkeypatch)
    return repository_once


class Page(HTMLParser):
    """The text of a page outside of scripts, and its scripts by id."""

    def __init__(self, page: str):
        super().__init__()
        self.visible, self.scripts, self._script = "", {}, None
        self.feed(page)
        self.sheet = json.loads(self.scripts["sheet"])

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self._script = dict(attrs).get("id", "")
            self.scripts[self._script] = ""

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.visible += data
        else:
            self.scripts[self._script] += data


def make_verdicts(page: Page, judge: str, choose) -> dict:
    """Return the file of a judge whose verdict on a pair is `choose(first, second)`."""
    verdicts = {str(pair["sample"]): choose(pair["first"], pair["second"]) for pair in page.sheet["pairs"]}
    header = {key: page.sheet[key] for key in ("comparison", "seed")}
    return {**header, "judge": judge, "verdicts": verdicts}


def prefer_bob(first, second):
    return "first" if first.startswith("Bob") else "second"


def parse(*files: dict) -> list[Verdicts]:
    """Validate files of verdicts."""
    return [validate(Verdicts, file, "verdicts.json") for file in files]


def test_pairs_have_the_same_sample_number_and_temperature(repository):
    page = Page(make_sheet("main", "bobs", 1.0, N_STORIES, seed=1))
    assert sorted(pair["sample"] for pair in page.sheet["pairs"]) == list(range(N_STORIES))
    for pair in page.sheet["pairs"]:
        first, second = pair["first"], pair["second"]
        assert {first[:3], second[:3]} == {"Sue", "Bob"}
        assert first[3:] == second[3:]
        assert first.endswith("At 1.0.")


def test_html_in_a_story_is_escaped(repository):
    pairs = Page(make_sheet("main", "bobs", 0.6, N_STORIES, seed=1)).sheet["pairs"]
    text = next(pair["first"][3:] for pair in pairs if pair["sample"] == 3)
    assert text == ". <b>The & end</b></script><!-- ünï\u2028code SHEET At 0.6."


def test_sheet_does_not_show_the_experiments(repository):
    page = Page(make_sheet("main", "bobs", 0.6, N_STORIES, seed=1))
    assert "Story 1" in page.visible
    assert not re.search("bobs|main|Sue|Bob", page.visible)
    assert {*page.sheet} == {"comparison", "seed", "pairs"}
    assert {key for pair in page.sheet["pairs"] for key in pair} == {"sample", "first", "second"}


def test_sheet_makes_no_requests(repository):
    page = make_sheet("main", "bobs", 0.6, 2, seed=1)
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|src=|href=|@import|url\(", page)


def test_seed_determines_pairs_and_order(repository):
    pages = [make_sheet("main", "bobs", 0.6, 6, seed) for seed in (1, 1, 2, 3)]
    assert pages[0] == pages[1]
    samples = {tuple(pair["sample"] for pair in Page(page).sheet["pairs"]) for page in pages}
    assert len(samples) == 3
    orders = [prefer_bob(pair["first"], "") for page in pages for pair in Page(page).sheet["pairs"]]
    assert 4 < orders.count("first") < 20


def test_larger_sheet_begins_with_the_pairs_of_a_smaller_one(repository):
    small, large = (Page(make_sheet("main", "bobs", 0.6, n, seed=5)).sheet["pairs"] for n in (4, 9))
    assert large[:4] == small


@pytest.mark.parametrize("seed", [1, 2, -7])
def test_count_restores_the_order_of_each_pair(repository, seed):
    page = Page(make_sheet("main", "bobs", 0.6, 9, seed))
    assert count(parse(make_verdicts(page, "ann", prefer_bob))) == Tally(9, 0, 0)
    reverse = Page(make_sheet("bobs", "main", 0.6, 9, seed))
    assert count(parse(make_verdicts(reverse, "ann", prefer_bob))) == Tally(0, 9, 0)


def test_workspace_can_be_compared(repository):
    page = Page(make_sheet("main", "workspace", 0.6, 5, seed=1))
    assert count(parse(make_verdicts(page, "ann", prefer_bob))) == Tally(5, 0, 0)


def test_count_takes_the_majority_of_the_judges(repository):
    page = Page(make_sheet("main", "bobs", 0.6, 3, seed=1))
    files = [make_verdicts(page, judge, prefer_bob) for judge in ("ann", "ben", "cem")]
    lost, tied, won = files[0]["verdicts"]
    other = {"first": "second", "second": "first"}
    # Two of three judges prefer a.
    for file in files[:2]:
        file["verdicts"][lost] = other[file["verdicts"][lost]]
    # One judge prefers a, one b, and one neither.
    files[0]["verdicts"][tied] = other[files[0]["verdicts"][tied]]
    files[1]["verdicts"][tied] = "tie"
    # Only one judge got to the last pair.
    del files[0]["verdicts"][won], files[1]["verdicts"][won]
    assert count(parse(*files)) == Tally(wins=1, losses=1, ties=1)


def test_command_makes_a_sheet_and_tallies_verdicts(repository, tmp_path):
    path = tmp_path / "sheet.html"
    result = run_module("tools.judging", "sheet", "main", "bobs", "--pairs", "8", "-o", str(path))
    assert (result.returncode, result.stderr) == (0, "")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.sheet["comparison"]["temperature"] == 0.6
    assert len(page.sheet["pairs"]) == 8
    (tmp_path / "ann.json").write_text(json.dumps(make_verdicts(page, "ann", prefer_bob)))
    result = run_module("tools.judging", "tally", str(tmp_path / "ann.json"))
    assert result.stdout.splitlines() == [
        "bobs against main, stories at temperature 0.6",
        "pairs: 8, judges: 1",
        "won: 8, lost: 0, tied: 0",
        "bobs was preferred in 8 of 8 decided pairs, 100% (95% CI: 68% to 100%); "
        "significant (sign test: p = 0.0078).",
    ]


def test_summarize_few_or_tied_verdicts_is_not_significant(repository):
    page = Page(make_sheet("main", "bobs", 0.6, 3, seed=1))
    summary = summarize(parse(make_verdicts(page, "ann", prefer_bob)))
    assert "3 of 3 decided pairs" in summary
    assert "not significant (sign test: p = 0.25)" in summary
    tied = parse(make_verdicts(page, "ann", lambda *_: "tie"))
    assert summarize(tied).endswith("tied: 3\nAll pairs are tied: there is no preference.")


@pytest.mark.parametrize("a, b, temperature, n_pairs, line", [
    ("main", "nobody", 0.6, 1, "nobody: unknown Git revision 'nobody'"),
    ("main", "bobs", 0.7, 1, "main:data/samples.jsonl: no stories at temperature 0.7; available: 0.6, 1"),
    ("main", "bobs", 0.6, 13, "--pairs: must be between 1 and 12, the number of pairs of different "
     "stories of main and bobs at temperature 0.6, got 13"),
    ("main", "bobs", 0.6, 0, "--pairs: must be between 1 and 12, the number of pairs of different "
     "stories of main and bobs at temperature 0.6, got 0"),
    ("bobs", "workspace", 0.6, 1, "bobs and workspace have no different stories at temperature 0.6"),
])  # fmt: skip
def test_make_sheet_rejects_invalid_arguments(repository, a, b, temperature, n_pairs, line):
    with pytest.raises(UserError) as caught:
        make_sheet(a, b, temperature, n_pairs, seed=1)
    assert str(caught.value) == line


def test_error_is_one_line_and_writes_no_sheet(repository, tmp_path):
    result = run_module("tools.judging", "sheet", "main", "nobody", "-o", str(tmp_path / "sheet.html"))
    expected = "error: nobody: unknown Git revision 'nobody'\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content, line", [
    (b"{", "data/samples.jsonl:1: not valid JSON"),
    (b"\xff", "data/samples.jsonl:1: not valid JSON: 'utf-8' codec can't decode"),
    (b"3", "data/samples.jsonl:1: must be a mapping, got 3"),
    (b'{"temperature": 0.6, "sample": "x", "text": ""}', "data/samples.jsonl:1: sample: must be a"),
    (b"", "data/samples.jsonl: no stories at temperature 0.6; available: none"),
    (None, "workspace: no data/samples.jsonl; run `dvc repro`, `dvc pull` or `dvc exp pull`"),
])  # fmt: skip
def test_invalid_stories_are_rejected(repository, content, line):
    path, lock = Path("data/samples.jsonl"), Path("dvc.lock")
    before, locked = path.read_bytes(), lock.read_bytes()
    # Without the lock file DVC cannot read the stories from its cache.
    path.unlink()
    lock.unlink()
    try:
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            make_sheet("main", "workspace", 0.6, 1, seed=1)
        assert line in str(caught.value)
    finally:
        path.write_bytes(before)
        lock.write_bytes(locked)


def test_read_verdicts_rejects_invalid_files(repository, tmp_path):
    def write(name, file):
        path = tmp_path / name
        path.write_bytes(file if isinstance(file, bytes) else json.dumps(file).encode())
        return path

    valid = make_verdicts(Page(make_sheet("main", "bobs", 0.6, 3, seed=1)), "ann", prefer_bob)
    warmer = make_verdicts(Page(make_sheet("main", "bobs", 1.0, 3, seed=1)), "ben", prefer_bob)
    ann = write("ann.json", valid)
    for name, file, complaint in (
        ("again.json", valid, "again.json: same judge as"),
        ("warm.json", warmer, "warm.json: compares other stories than"),
        ("broken.json", b"{", "broken.json: not valid JSON"),
        (
            "left.json",
            {**valid, "judge": "x", "verdicts": {"1": "left"}},
            "verdicts.1: must be 'first'",
        ),
        ("list.json", [], "must be a mapping"),
    ):
        with pytest.raises(UserError, match=re.escape(complaint)):
            read_verdicts([ann, write(name, file)])
    result = run_module("tools.judging", "tally", str(tmp_path / "none.json"))
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path / 'none.json'}: No such file or directory\n"


# Appended to a sheet: judges two pairs, runs the script of the page again as if it were reopened, judges the
# other pairs, and stores the displayed texts and the saved file in an attribute of the body. The second run
# of the script is in a block, so that it can declare its names again.
CLICKS = """<script>
  const press = (key) => dispatchEvent(new KeyboardEvent("keydown", { key }));
  const seen = [];
  const record = () => seen.push(element("progress").textContent + "|" + element("first").textContent);
  URL.createObjectURL = (blob) => {
    blob.text().then((text) => { document.body.dataset.saved = JSON.stringify({ seen, text }); });
    return "#";
  };

  choices[0].click();
  press("ArrowRight");
  press("Backspace");
  element("back").click();
  // The judge changes the verdict on the first pair.
  press("ArrowRight");
  press("2");

  const again = document.createElement("script");
  again.textContent = `{${document.querySelector("script:not([type])").textContent}}`;
  document.body.append(again);
  record();
  press("0");
  press("Control");
  record();
  choices[2].click();
  record();
  element("save").click();
</script>"""


@needs_browser
def test_browser_restores_and_saves_verdicts(repository, tmp_path):
    text = make_sheet("main", "bobs", 0.6, 4, seed=1)
    pairs = Page(text).sheet["pairs"]
    path = tmp_path / "sheet.html"
    path.write_text(text.replace("</html>", CLICKS + "</html>"), encoding="utf-8")
    dom = dom_of(path, tmp_path / "profile", "--virtual-time-budget=5000")

    class Saved(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag == "body":
                self.saved = json.loads(dict(attrs)["data-saved"])

    parser = Saved()
    parser.feed(dom)
    done = "Done, thank you. Save the verdicts and send the file to the person who sent you this page."
    progress = ["Pair 3 of 4", "Pair 4 of 4", done]
    texts = [pairs[2]["first"], pairs[3]["first"], pairs[3]["first"]]
    assert parser.saved["seen"] == [f"{p}|{t}" for p, t in zip(progress, texts, strict=True)]
    (file,) = parse(json.loads(parser.saved["text"]))
    expected = ["second", "second", "tie", "second"]
    assert file.verdicts == {str(pair["sample"]): v for pair, v in zip(pairs, expected, strict=True)}
    tally = count([file])
    assert tally.ties == 1
    assert tally.wins == sum(pairs[i]["second"].startswith("Bob") for i in (0, 1, 3))
