"""Results of the stages sample and eval_samples."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from slm.core.config import StrictModel
from slm.core.files import Count, Details, Fraction


class Story(StrictModel):
    """A line of samples.jsonl: a sample without a prompt, and the results of the checks."""

    temperature: float
    # Number within its temperature, from 1.
    sample: Annotated[int, Field(ge=1)]
    text: str
    tokens: Count
    # The model sampled end-of-text before max_new_tokens.
    ended: bool
    # Tokens of its longest run that occurs in the training split.
    longest_copy: Count
    # None where the corpus has no consistency checker.
    consistent: bool | None
    complaints: list[str]


class SampleMetrics(StrictModel):
    """reports/eval_samples.json: the samples at the temperature of the section `sample`."""

    eos_rate: Fraction
    distinct_2: Fraction
    copy_rate: Fraction
    # None where the corpus has no consistency checker.
    consistency: Fraction | None = None


class SampleQuality(StrictModel):
    """A row of eval_samples.csv: the samples of one temperature."""

    temperature: float
    num_samples: Count
    eos_rate: Fraction
    distinct_1: Fraction
    distinct_2: Fraction
    seq_rep_4: Fraction
    vocab_coverage: Fraction
    copy_rate: Fraction
    # Tokens.
    longest_copy: Count
    self_bleu_4: Fraction
    consistency: Fraction | None = None

    def metrics(self) -> SampleMetrics:
        """Return the metrics among these columns."""
        return SampleMetrics(**self.model_dump(include=set(SampleMetrics.model_fields)))


class SampleDetails(Details):
    """reports/details/eval_samples.json"""

    temperature: float
    num_samples: Count


# JSON has lists instead of tuples.
Alternative = Annotated[tuple[str, Fraction], Field(strict=False)]


class Inspection(StrictModel):
    """data/inspection.json: token probabilities and attention of one text of N tokens."""

    # How many of the tokens are the prompt.
    given: Count
    # N strings that make up the text; a character in several tokens is with its last one.
    tokens: Annotated[list[str], Field(min_length=1)]
    # Of each token, given the tokens before it.
    probabilities: list[Fraction]
    # The most likely tokens at each position, with their probabilities.
    alternatives: list[list[Alternative]]
    # [layer][head][t][s]: attention weight of position s when predicting from position t.
    attention: list[list[list[list[Fraction]]]]

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        if not len(self.tokens) == len(self.probabilities) == len(self.alternatives):
            raise ValueError("tokens, probabilities and alternatives must have the same length")
        heads = [head for layer in self.attention for head in layer]
        sizes = {len(head) for head in heads} | {len(row) for head in heads for row in head}
        if len(sizes) != 1 or not 0 < max(sizes) <= len(self.tokens):
            raise ValueError("attention must be square, with at most one row per token")
        return self
