"""Compare the samples of two experiments by human judges, blind and in pairs.

    python -m tools.judging sheet main deeper --pairs 20 -o sheet.html
    python -m tools.judging tally verdicts-*.json

The sheet is an HTML page that works offline. It shows two stories at a time, one of each experiment, at the
same temperature and without the names of the experiments. The order within a pair depends only on the seed
and the sample number, so the tally can restore it, and no key has to be stored that a judge could see. The
order is independent for each pair, so the sign test is valid even for a judge who always prefers the first.
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
from slm.data.statistics import sign_test, wilson_interval
from slm.generate.params import SampleParams

STORIES = "data/samples.jsonl"
TEMPLATE = Path(__file__).with_suffix(".html")
SIGNIFICANCE_LEVEL = 0.05


class Story(StrictModel):
    """The fields of a line of samples.jsonl that a comparison needs."""

    model_config = ConfigDict(extra="ignore")

    temperature: float
    # Number within its temperature.
    sample: int
    text: str


class Comparison(StrictModel):
    """The compared experiments a and b, at one temperature."""

    a: str
    b: str
    temperature: float
    # Digest of all stories, because an experiment of the same name can have other stories later.
    stories: str


class Verdicts(StrictModel):
    """The file that a sheet saves: the verdicts of one judge, by sample number."""

    comparison: Comparison
    seed: int
    judge: str
    verdicts: dict[str, Literal["first", "second", "tie"]]


class Tally(NamedTuple):
    """The number of pairs that b won, lost and tied against a."""

    wins: int
    losses: int
    ties: int


def read_stories(experiment: str, temperature: float) -> dict[int, str]:
    """Return the stories of an experiment at a temperature, by sample number.

    `experiment` is a git revision, the name of a DVC experiment, or "workspace". Raises UserError if it does
    not exist or has no such stories.
    """
    try:
        rev = None if experiment == "workspace" else experiment
        lines: bytes = dvc.api.read(STORIES, rev=rev, mode="rb")
    except PathMissingError:
        hint = "run `dvc repro`, `dvc pull` or `dvc exp pull`"
        raise UserError(f"{experiment}: no {STORIES}; {hint}") from None
    except DvcException as error:
        raise UserError(f"{experiment}: {error}".splitlines()[0]) from None
    file = f"{experiment}:{STORIES}"
    stories = [_parse_story(line, f"{file}:{n}") for n, line in enumerate(lines.splitlines(), 1)]
    texts = {story.sample: story.text for story in stories if story.temperature == temperature}
    if not texts:
        temperatures = ", ".join(f"{t:g}" for t in sorted({story.temperature for story in stories}))
        raise UserError(
            f"{file}: no stories at temperature {temperature:g}; available: {temperatures or 'none'}"
        )
    return texts


def _parse_story(line: bytes, location: str) -> Story:
    """Parse a line of samples.jsonl. Raises UserError that names the location if it is invalid."""
    try:
        return validate(Story, json.loads(line), location)
    except ValueError as error:
        raise UserError(f"{location}: not valid JSON: {error}") from None


def make_sheet(a: str, b: str, temperature: float, n_pairs: int, seed: int) -> str:
    """Return an HTML page that shows pairs of stories of a and b side by side.

    The stories of a pair have the same sample number. Raises UserError if there are fewer than `n_pairs`.
    """
    stories_a, stories_b = read_stories(a, temperature), read_stories(b, temperature)
    # Pairs of equal stories cannot be judged.
    samples = [sample for sample, text in stories_a.items() if text != stories_b.get(sample, text)]
    if not samples:
        raise UserError(f"{a} and {b} have no different stories at temperature {temperature:g}")
    if not 1 <= n_pairs <= len(samples):
        raise UserError(
            f"--pairs: must be between 1 and {len(samples)}, the number of pairs of different stories "
            f"of {a} and {b} at temperature {temperature:g}, got {n_pairs}"
        )
    samples.sort(key=lambda sample: _hash(seed, sample))
    pairs = []
    for sample in samples[:n_pairs]:
        first, second = (stories_b, stories_a) if _b_is_first(seed, sample) else (stories_a, stories_b)
        pairs.append({"sample": sample, "first": first[sample], "second": second[sample]})
    digest = sha256(json.dumps([stories_a, stories_b]).encode()).hexdigest()[:16]
    comparison = Comparison(a=a, b=b, temperature=temperature, stories=digest)
    sheet = json.dumps({"comparison": comparison.model_dump(), "seed": seed, "pairs": pairs})
    # Only "<" could end the script element or begin a comment in it; in JSON it occurs inside strings only.
    return TEMPLATE.read_text(encoding="utf-8").replace("SHEET", sheet.replace("<", r"\u003c"))


def _hash(seed: int, sample: int | str) -> int:
    """Return a pseudo-random number of 256 bits that is the same on every machine."""
    return int.from_bytes(sha256(f"{seed} {sample}".encode()).digest())


def _b_is_first(seed: int, sample: int | str) -> bool:
    """Return whether the story of b is the first of its pair."""
    return _hash(seed, sample) % 2 == 1


def read_verdicts(paths: list[Path]) -> list[Verdicts]:
    """Read the files of all judges.

    Raises UserError if one is invalid, two are by the same judge, or their comparisons differ.
    """
    path_of_judge: dict[str, Path] = {}
    files: list[Verdicts] = []
    for path in paths:
        try:
            file = validate(Verdicts, json.loads(path.read_bytes()), str(path))
        except ValueError as error:
            raise UserError(f"{path}: not valid JSON: {error}") from None
        if file.judge in path_of_judge:
            raise UserError(f"{path}: same judge as {path_of_judge[file.judge]}; pass only one of them")
        if files and file.comparison != files[0].comparison:
            raise UserError(f"{path}: compares other stories than {paths[0]}")
        path_of_judge[file.judge] = path
        files.append(file)
    return files


def count(files: list[Verdicts]) -> Tally:
    """Count the pairs that b won, lost and tied by the majority of the judges.

    A pair counts once for any number of judges, because their verdicts on it are not independent.
    """
    lead_of_b: Counter[str] = Counter()
    for file in files:
        for sample, verdict in file.verdicts.items():
            prefers_b = (verdict == "first") == _b_is_first(file.seed, sample)
            lead_of_b[sample] += 0 if verdict == "tie" else 1 if prefers_b else -1
    leads = lead_of_b.values()
    return Tally(sum(n > 0 for n in leads), sum(n < 0 for n in leads), sum(n == 0 for n in leads))


def summarize(files: list[Verdicts]) -> str:
    """Return the result as text: counts, the share of wins with its 95 % interval, and a sign test."""
    comparison, tally = files[0].comparison, count(files)
    decided = tally.wins + tally.losses
    lines = [
        f"{comparison.b} against {comparison.a}, stories at temperature {comparison.temperature:g}",
        f"pairs: {sum(tally)}, judges: {len(files)}",
        f"won: {tally.wins}, lost: {tally.losses}, tied: {tally.ties}",
    ]
    if not decided:
        return "\n".join([*lines, "All pairs are tied: there is no preference."])
    low, high = wilson_interval(tally.wins, decided)
    p = sign_test(tally.wins, tally.losses)
    significance = "significant" if p < SIGNIFICANCE_LEVEL else "not significant"
    share = f"{tally.wins / decided:.0%} (95% CI: {low:.0%} to {high:.0%})"
    preferred = f"{comparison.b} was preferred in {tally.wins} of {decided} decided pairs, {share}"
    return "\n".join([*lines, f"{preferred}; {significance} (sign test: p = {p:.2g})."])


def main() -> None:
    """Write a sheet, or print the tally."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.judging", description="Compare the samples of two experiments by human judges."
    )
    commands = parser.add_subparsers(required=True, dest="command")
    sheet = commands.add_parser(
        "sheet",
        help="create an HTML page with pairs of stories",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sheet.add_argument("a", help="git revision, DVC experiment, or workspace")
    sheet.add_argument("b", help="git revision, DVC experiment, or workspace to compare with a")
    sheet.add_argument("--pairs", type=int, default=20, help="number of pairs")
    sheet.add_argument("--seed", type=int, default=1, help="seed of the selection and the order of the pairs")
    sheet.add_argument(
        "--temperature",
        type=float,
        default=argparse.SUPPRESS,
        help="temperature of the stories (default: sample.temperature in params.yaml)",
    )
    sheet.add_argument("-o", dest="path", type=Path, default=Path("sheet.html"), help="path of the page")
    tally = commands.add_parser("tally", help="count the verdicts")
    tally.add_argument("paths", type=Path, nargs="+", help="files that the page saved, one per judge")
    args = parser.parse_args()
    if args.command == "tally":
        print(summarize(read_verdicts(args.paths)))
        return
    temperature = args.temperature if "temperature" in args else SampleParams.load().temperature
    write_text(args.path, make_sheet(args.a, args.b, temperature, args.pairs, args.seed))
    print(f"wrote {args.path} with {args.pairs} pairs; open it in a browser")


if __name__ == "__main__":
    run_command(main)
