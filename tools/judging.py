"""People as judges: which of two experiments tells the better stories?

    python -m tools.judging sheet main deeper --pairs 20 -o sheet.html
    python -m tools.judging tally verdicts-*.json

The sheet is a page that works offline. It shows two stories at a time, of the same temperature, one of each
experiment, without saying which is whose. Which one comes first is drawn for each pair from the seed and the
number of the pair, and the tally draws it again: so no key is stored that might be read by chance. As each
pair has a draw of its own, the test below holds even for a judge who always likes the first story.
"""

import argparse
import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import dvc.api
from dvc.exceptions import DvcException, PathMissingError
from pydantic import ConfigDict

from slm.core.config import StrictModel, validate
from slm.core.errors import UserError, run_command
from slm.core.files import write_text
from slm.core.statistics import sign_test, wilson_interval
from slm.generate.params import SampleParams

STORIES = "data/samples.jsonl"
TEMPLATE = Path(__file__).with_suffix(".html")
HARDLY_CHANCE = 0.05  # below this p


class Story(StrictModel):
    """What is needed here of a line of samples.jsonl."""

    model_config = ConfigDict(extra="ignore")

    temperature: float
    sample: int  # its number among those of this temperature
    text: str


class Comparison(StrictModel):
    """What is compared: stories of one temperature of the experiments a and b."""

    a: str
    b: str
    temperature: float
    stories: str  # digest of them all: an experiment of the same name may have others tomorrow


class Verdicts(StrictModel):
    """The file that a sheet saves: what one judge said of the pairs seen, by their sample number."""

    comparison: Comparison
    seed: int
    judge: str
    verdicts: dict[str, Literal["first", "second", "tie"]]


class Tally(NamedTuple):
    """How many pairs b won, lost and tied against a."""

    wins: int
    losses: int
    ties: int


def read_stories(experiment: str, temperature: float) -> dict[int, str]:
    """An experiment's stories of a temperature, by sample number.

    `experiment` is a git revision, the name of a DVC experiment, or "workspace" for the present one. Raises
    UserError if it, its stories or those of this temperature are not there.
    """
    try:
        rev = None if experiment == "workspace" else experiment
        lines: bytes = dvc.api.read(STORIES, rev=rev, mode="rb")
    except PathMissingError:
        hint = "`dvc repro` makes it, `dvc pull` or `dvc exp pull` brings it"
        raise UserError(f"{experiment}: no {STORIES}; {hint}") from None
    except DvcException as error:
        raise UserError(f"{experiment}: {error}".splitlines()[0]) from None
    file = f"{experiment}:{STORIES}"
    stories = [_story(line, Path(f"{file}:{n}")) for n, line in enumerate(lines.splitlines(), 1)]
    found = {story.sample: story.text for story in stories if story.temperature == temperature}
    if not found:
        there = ", ".join(f"{t:g}" for t in sorted({story.temperature for story in stories})) or "none"
        raise UserError(f"{file}: no story of temperature {temperature:g}; there are: {there}")
    return found


def _story(line: bytes, where: Path) -> Story:
    try:
        return validate(Story, json.loads(line), str(where))
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None


def make_sheet(a: str, b: str, temperature: float, n_pairs: int, seed: int) -> str:
    """The page that shows pairs of stories of a and b side by side.

    A pair has the same sample number in both. Raises UserError if there are not so many pairs.
    """
    of_a, of_b = read_stories(a, temperature), read_stories(b, temperature)
    samples = [sample for sample in of_a if of_a[sample] != of_b.get(sample, of_a[sample])]
    if not 1 <= n_pairs <= len(samples):
        allowed = f"1 to {len(samples)}" if samples else "none"
        what = f"as many pairs of different stories of temperature {temperature:g} have {a} and {b}"
        raise UserError(f"--pairs: must be {allowed}, {what}, got {n_pairs}")
    samples.sort(key=lambda sample: _draw(seed, sample))
    pairs = []
    for sample in samples[:n_pairs]:
        first, second = (of_b, of_a) if _b_is_first(seed, sample) else (of_a, of_b)
        pairs.append({"sample": sample, "first": first[sample], "second": second[sample]})
    digest = sha256(json.dumps([of_a, of_b]).encode()).hexdigest()[:16]
    comparison = Comparison(a=a, b=b, temperature=temperature, stories=digest)
    sheet = json.dumps({"comparison": comparison.model_dump(), "seed": seed, "pairs": pairs})
    # Within a script element only "<" could end it, or begin a comment; JSON has it in texts alone.
    return TEMPLATE.read_text(encoding="utf-8").replace("SHEET", sheet.replace("<", r"\u003c"))


def _draw(seed: int, sample: int | str) -> int:
    """A number of 256 bits, the same on every machine."""
    return int.from_bytes(sha256(f"{seed} {sample}".encode()).digest())


def _b_is_first(seed: int, sample: int | str) -> bool:
    return _draw(seed, sample) % 2 == 1


def read_verdicts(paths: list[Path]) -> list[Verdicts]:
    """What the judges said. Raises UserError if a file is broken, twice there or of another comparison."""
    path_of: dict[str, Path] = {}
    judged: list[Verdicts] = []
    for path in paths:
        try:
            found = validate(Verdicts, json.loads(path.read_bytes()), str(path))
        except ValueError as error:
            raise UserError(f"{path}: not valid JSON: {error}") from None
        if found.judge in path_of:
            raise UserError(f"{path}: by the same judge as {path_of[found.judge]}; give one of them")
        if judged and found.comparison != judged[0].comparison:
            raise UserError(f"{path}: compares other stories than {paths[0]}")
        path_of[found.judge] = path
        judged.append(found)
    return judged


def count(judged: list[Verdicts]) -> Tally:
    """Add up the judges of each pair: b wins it if more of them preferred b's story than a's.

    A pair counts once however many judges saw it, for their verdicts on one pair are not independent.
    """
    lead_of_b: Counter[str] = Counter()
    for file in judged:
        for sample, verdict in file.verdicts.items():
            prefers_b = (verdict == "first") == _b_is_first(file.seed, sample)
            lead_of_b[sample] += 0 if verdict == "tie" else 1 if prefers_b else -1
    leads = lead_of_b.values()
    return Tally(sum(n > 0 for n in leads), sum(n < 0 for n in leads), sum(n == 0 for n in leads))


def in_words(judged: list[Verdicts]) -> str:
    """The result, to be read."""
    compared, tally = judged[0].comparison, count(judged)
    decided = tally.wins + tally.losses
    lines = [
        f"{compared.b} against {compared.a}, stories of temperature {compared.temperature:g}",
        f"pairs: {sum(tally)}, files of verdicts: {len(judged)}",
        f"won: {tally.wins}, lost: {tally.losses}, tied: {tally.ties}",
    ]
    if not decided:
        return "\n".join([*lines, "No pair was decided, so neither was preferred."])
    low, high = wilson_interval(tally.wins, decided)
    p = sign_test(tally.wins, tally.losses)
    share = f"{tally.wins / decided:.0%} (95% interval: {low:.0%} to {high:.0%})"
    verdict = "hardly chance" if p < HARDLY_CHANCE else "could be chance"
    preferred = f"{compared.b} was preferred in {tally.wins} of {decided} decided pairs"
    return "\n".join([*lines, f"{preferred}, {share}; {verdict} (sign test: p = {p:.2g})."])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.judging", description="Let people judge stories.")
    commands = parser.add_subparsers(required=True, dest="command")
    sheet = commands.add_parser("sheet", help="make a page of pairs of stories")
    sheet.add_argument("a", help="a git revision, an experiment, or workspace")
    sheet.add_argument("b", help="another one, judged against it")
    sheet.add_argument("--pairs", type=int, default=20, help="how many to judge (20)")
    sheet.add_argument("--seed", type=int, default=1, help="draws the pairs, and which story comes first (1)")
    sheet.add_argument(
        "--temperature", type=float, help="of the stories; by default sample.temperature of params.yaml"
    )
    sheet.add_argument("-o", dest="path", type=Path, default=Path("sheet.html"), help="the page (sheet.html)")
    tally = commands.add_parser("tally", help="count what the judges said")
    tally.add_argument("paths", type=Path, nargs="+", help="the files that the page saved")
    args = parser.parse_args()
    if args.command == "tally":
        print(in_words(read_verdicts(args.paths)))
        return
    temperature = SampleParams.load().temperature if args.temperature is None else args.temperature
    write_text(args.path, make_sheet(args.a, args.b, temperature, args.pairs, args.seed))
    print(f"{args.path}: {args.pairs} pairs, to be judged in a browser")


if __name__ == "__main__":
    run_command(main)
