"""Sheets for judges are blind, work in a browser, and their verdicts are counted rightly."""

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
from tools.judging import Tally, Verdicts, count, in_words, make_sheet, read_verdicts

N_STORIES = 12  # of each temperature
WRITE = """
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
    """A repository whose stories are of Sue; those of the experiment `bobs` are of Bob."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "write.py").write_text(WRITE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        start_pipeline(folder, PIPELINE, PARAMS)
        assert dvc(["exp", "run", "-q", "-n", "bobs", "-S", "model.hero=Bob"]) == 0
    return folder


@pytest.fixture
def repository(repository_once, monkeypatch):
    """It is the current folder; the stories in the workspace are those of `bobs`."""
    enter(repository_once, monkeypatch)
    return repository_once


class Page(HTMLParser):
    """What a browser makes of a page: the text outside of scripts, and the scripts by their id."""

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


def verdicts_of(page: Page, judge: str, choose) -> dict:
    """The file of a judge who chooses by the two texts."""
    verdicts = {str(pair["sample"]): choose(pair["first"], pair["second"]) for pair in page.sheet["pairs"]}
    kept = {key: page.sheet[key] for key in ("comparison", "seed")}
    return {**kept, "judge": judge, "verdicts": verdicts}


def likes_bob(first, second):
    return "first" if first.startswith("Bob") else "second"


def checked(*files: dict) -> list[Verdicts]:
    return [validate(Verdicts, file, "verdicts.json") for file in files]


def test_a_pair_is_the_same_sample_of_both_experiments_at_the_temperature_asked_for(repository):
    page = Page(make_sheet("main", "bobs", 1.0, N_STORIES, seed=1))
    assert sorted(pair["sample"] for pair in page.sheet["pairs"]) == list(range(N_STORIES))
    for pair in page.sheet["pairs"]:
        first, second = pair["first"], pair["second"]
        assert {first[:3], second[:3]} == {"Sue", "Bob"}
        assert first[3:] == second[3:]
        assert first.endswith("At 1.0.")


def test_signs_of_html_in_a_story_are_shown_as_they_are_and_end_no_script(repository):
    pairs = Page(make_sheet("main", "bobs", 0.6, N_STORIES, seed=1)).sheet["pairs"]
    told = next(pair["first"][3:] for pair in pairs if pair["sample"] == 3)
    assert told == ". <b>The & end</b></script><!-- ünï\u2028code SHEET At 0.6."


def test_what_can_be_seen_does_not_tell_whose_a_story_is(repository):
    page = Page(make_sheet("main", "bobs", 0.6, N_STORIES, seed=1))
    assert "Story 1" in page.visible
    assert not re.search("bobs|main|Sue|Bob", page.visible)
    assert {*page.sheet} == {"comparison", "seed", "pairs"}
    assert {key for pair in page.sheet["pairs"] for key in pair} == {"sample", "first", "second"}


def test_the_page_asks_for_nothing_from_elsewhere(repository):
    page = make_sheet("main", "bobs", 0.6, 2, seed=1)
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|src=|href=|@import|url\(", page)


def test_the_seed_draws_pairs_and_order_and_draws_the_same_again(repository):
    pages = [make_sheet("main", "bobs", 0.6, 6, seed) for seed in (1, 1, 2, 3)]
    assert pages[0] == pages[1]
    samples = {tuple(pair["sample"] for pair in Page(page).sheet["pairs"]) for page in pages}
    assert len(samples) == 3
    orders = [likes_bob(pair["first"], "") for page in pages for pair in Page(page).sheet["pairs"]]
    assert 4 < orders.count("first") < 20


def test_a_larger_sheet_begins_with_the_pairs_of_a_smaller_one(repository):
    small, large = (Page(make_sheet("main", "bobs", 0.6, n, seed=5)).sheet["pairs"] for n in (4, 9))
    assert large[:4] == small


@pytest.mark.parametrize("seed", [1, 2, -7])
def test_whoever_likes_the_stories_of_b_has_b_win_wherever_they_stand(repository, seed):
    page = Page(make_sheet("main", "bobs", 0.6, 9, seed))
    assert count(checked(verdicts_of(page, "ann", likes_bob))) == Tally(9, 0, 0)
    reverse = Page(make_sheet("bobs", "main", 0.6, 9, seed))
    assert count(checked(verdicts_of(reverse, "ann", likes_bob))) == Tally(0, 9, 0)


def test_the_workspace_is_compared_as_it_is(repository):
    page = Page(make_sheet("main", "workspace", 0.6, 5, seed=1))
    assert count(checked(verdicts_of(page, "ann", likes_bob))) == Tally(5, 0, 0)


def test_judges_of_a_pair_add_up_to_one_verdict(repository):
    page = Page(make_sheet("main", "bobs", 0.6, 3, seed=1))
    files = [verdicts_of(page, judge, likes_bob) for judge in ("ann", "ben", "cem")]
    lost, tied, won = files[0]["verdicts"]
    other = {"first": "second", "second": "first"}
    for file in files[:2]:  # two of three against b
        file["verdicts"][lost] = other[file["verdicts"][lost]]
    files[0]["verdicts"][tied] = other[files[0]["verdicts"][tied]]  # one against, one for, one tie
    files[1]["verdicts"][tied] = "tie"
    del files[0]["verdicts"][won], files[1]["verdicts"][won]  # only one judge got so far
    assert count(checked(*files)) == Tally(wins=1, losses=1, ties=1)


def test_the_command_makes_a_sheet_of_the_params_temperature_and_tallies_what_was_said(repository, tmp_path):
    path = tmp_path / "sheet.html"
    made = run_module("tools.judging", "sheet", "main", "bobs", "--pairs", "8", "-o", str(path))
    assert (made.returncode, made.stderr) == (0, "")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.sheet["comparison"]["temperature"] == 0.6
    assert len(page.sheet["pairs"]) == 8
    (tmp_path / "ann.json").write_text(json.dumps(verdicts_of(page, "ann", likes_bob)))
    result = run_module("tools.judging", "tally", str(tmp_path / "ann.json"))
    assert result.stdout.splitlines() == [
        "bobs against main, stories of temperature 0.6",
        "pairs: 8, files of verdicts: 1",
        "won: 8, lost: 0, tied: 0",
        "bobs was preferred in 8 of 8 decided pairs, 100% (95% interval: 68% to 100%); "
        "hardly chance (sign test: p = 0.0078).",
    ]


def test_few_verdicts_could_be_chance_and_ties_decide_nothing(repository):
    page = Page(make_sheet("main", "bobs", 0.6, 3, seed=1))
    assert "3 of 3 decided pairs" in (words := in_words(checked(verdicts_of(page, "ann", likes_bob))))
    assert "could be chance (sign test: p = 0.25)" in words
    tied = checked(verdicts_of(page, "ann", lambda *_: "tie"))
    assert in_words(tied).endswith("tied: 3\nNo pair was decided, so neither was preferred.")


@pytest.mark.parametrize("a, b, temperature, n_pairs, line", [
    ("main", "nobody", 0.6, 1, "nobody: unknown Git revision 'nobody'"),
    ("main", "bobs", 0.7, 1, "main:data/samples.jsonl: no story of temperature 0.7; there are: 0.6, 1"),
    ("main", "bobs", 0.6, 13, "--pairs: must be 1 to 12, as many pairs of different "
     "stories of temperature 0.6 have main and bobs, got 13"),
    ("main", "bobs", 0.6, 0, "--pairs: must be 1 to 12, as many pairs of different "
     "stories of temperature 0.6 have main and bobs, got 0"),
    ("bobs", "workspace", 0.6, 1, "--pairs: must be none, as many pairs of different "
     "stories of temperature 0.6 have bobs and workspace, got 1"),
])  # fmt: skip
def test_what_cannot_be_compared_is_named(repository, a, b, temperature, n_pairs, line):
    with pytest.raises(UserError) as caught:
        make_sheet(a, b, temperature, n_pairs, seed=1)
    assert str(caught.value) == line


def test_a_comparison_that_cannot_be_made_is_one_line_and_no_sheet(repository, tmp_path):
    result = run_module("tools.judging", "sheet", "main", "nobody", "-o", str(tmp_path / "sheet.html"))
    expected = "error: nobody: unknown Git revision 'nobody'\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content, line", [
    (b"{", "data/samples.jsonl:1: not valid JSON"),
    (b"\xff", "data/samples.jsonl:1: not valid JSON: 'utf-8' codec can't decode"),
    (b"3", "data/samples.jsonl:1: must be a mapping, got 3"),
    (b'{"temperature": 0.6, "sample": "x", "text": ""}', "data/samples.jsonl:1: sample: must be a"),
    (b"", "data/samples.jsonl: no story of temperature 0.6; there are: none"),
    (None, "workspace: no data/samples.jsonl; `dvc repro` makes it, `dvc pull` or `dvc exp pull` brings it"),
])  # fmt: skip
def test_broken_stories_are_named(repository, content, line):
    path, lock = Path("data/samples.jsonl"), Path("dvc.lock")
    before, locked = path.read_bytes(), lock.read_bytes()
    path.unlink()
    lock.unlink()  # else DVC would take them from its cache
    try:
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            make_sheet("main", "workspace", 0.6, 1, seed=1)
        assert line in str(caught.value)
    finally:
        path.write_bytes(before)
        lock.write_bytes(locked)


def test_files_of_verdicts_that_do_not_add_up_are_refused(repository, tmp_path):
    def written(name, file):
        path = tmp_path / name
        path.write_bytes(file if isinstance(file, bytes) else json.dumps(file).encode())
        return path

    good = verdicts_of(Page(make_sheet("main", "bobs", 0.6, 3, seed=1)), "ann", likes_bob)
    warmer = verdicts_of(Page(make_sheet("main", "bobs", 1.0, 3, seed=1)), "ben", likes_bob)
    ann = written("ann.json", good)
    for name, file, complaint in (
        ("again.json", good, "again.json: by the same judge as"),
        ("warm.json", warmer, "warm.json: compares other stories than"),
        ("broken.json", b"{", "broken.json: not valid JSON"),
        (
            "left.json",
            {**good, "judge": "x", "verdicts": {"1": "left"}},
            "verdicts.1: must be 'first'",
        ),
        ("list.json", [], "must be a mapping"),
    ):
        with pytest.raises(UserError, match=re.escape(complaint)):
            read_verdicts([ann, written(name, file)])
    result = run_module("tools.judging", "tally", str(tmp_path / "none.json"))
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path / 'none.json'}: No such file or directory\n"


# Appended to a page: judges two pairs, runs the page's script anew as opening it again would, judges the rest
# and leaves what was seen and saved in an attribute. In a block, the script may declare its names once more.
CLICKING = """<script>
  const press = (key) => dispatchEvent(new KeyboardEvent("keydown", { key }));
  const seen = [];
  const look = () => seen.push(element("progress").textContent + "|" + element("first").textContent);
  URL.createObjectURL = (blob) => {
    blob.text().then((text) => { document.body.dataset.saved = JSON.stringify({ seen, text }); });
    return "#";
  };

  choices[0].click();
  press("ArrowRight");
  press("Backspace");
  element("back").click();
  press("ArrowRight");  // another mind about the first pair
  press("2");

  const again = document.createElement("script");
  again.textContent = `{${document.querySelector("script:not([type])").textContent}}`;
  document.body.append(again);
  look();
  press("0");
  press("Control");
  look();
  choices[2].click();
  look();
  element("save").click();
</script>"""


@needs_browser
def test_a_browser_shows_each_pair_keeps_verdicts_when_closed_and_saves_them(repository, tmp_path):
    text = make_sheet("main", "bobs", 0.6, 4, seed=1)
    pairs = Page(text).sheet["pairs"]
    path = tmp_path / "sheet.html"
    path.write_text(text.replace("</html>", CLICKING + "</html>"), encoding="utf-8")
    dom = dom_of(path, tmp_path / "profile", "--virtual-time-budget=5000")

    class Saved(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag == "body":
                self.saved = json.loads(dict(attrs)["data-saved"])

    parser = Saved()
    parser.feed(dom)
    done = "Done, thank you. Save the verdicts and send the file to whoever gave you this page."
    progress = ["Pair 3 of 4", "Pair 4 of 4", done]
    texts = [pairs[2]["first"], pairs[3]["first"], pairs[3]["first"]]
    assert parser.saved["seen"] == [f"{p}|{t}" for p, t in zip(progress, texts, strict=True)]
    (file,) = checked(json.loads(parser.saved["text"]))
    expected = ["second", "second", "tie", "second"]
    assert file.verdicts == {str(pair["sample"]): v for pair, v in zip(pairs, expected, strict=True)}
    tally = count([file])
    assert tally.ties == 1
    assert tally.wins == sum(pairs[i]["second"].startswith("Bob") for i in (0, 1, 3))
