"""What the stages found, and what of it is shown: a class for each file."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from slm.model.params import ModelParams
from slm.report.reading import Positive, Result, Row, Share

Interval = Annotated[list[float], Field(min_length=2, max_length=2)]  # low and high, 95 %


class TrainPoint(Row):
    """train.csv: how training went since the last point."""

    tokens: float
    train_loss: float
    learning_rate: float
    grad_norm: Annotated[float, Field(allow_inf_nan=True)]  # it may overflow in float16


class ValidationPoint(Row):
    """val.csv: a look at the validation split."""

    tokens: float
    val_loss: float


class Baseline(Row):
    """baselines.csv: this model, baselines to compare it with, and the entropy, a lower bound."""

    name: str
    kind: Literal["model", "baseline", "bound"]
    bits_per_byte: Positive


class PositionLoss(Row):
    """by_position.csv: tokens predicted from up to `position` tokens of context."""

    position: Annotated[int, Field(ge=1)]
    context: Literal["in_context", "extrapolated"]  # extrapolated: longer than any in training
    loss: float
    tokens: int


class FrequencyLoss(Row):
    """by_frequency.csv: tokens that occur so often in training, or more often but not twice so."""

    train_frequency: Annotated[int, Field(ge=0)]
    loss: float
    tokens: int
    types: int


class PairScore(Row):
    """minimal_pairs.csv: how often the model finds the right one of two sentences likelier."""

    phenomenon: str
    accuracy: Share
    pairs: int


class Quality(Row):
    """eval_samples.csv: the stories of one temperature."""

    temperature: float
    num_samples: int
    eos_rate: Share
    distinct_2: Share
    seq_rep_4: Share
    copy_rate: Share
    consistency: Share | None = None  # not known of every corpus


class Story(Row):
    """samples.jsonl: a story, and what a checker has to say against it."""

    temperature: float
    sample: int
    text: str
    ended: bool
    complaints: list[str] = Field(default_factory=list)


class Evaluation(Result):
    """eval.json"""

    section: ClassVar[str] = "eval"

    val_loss: Positive
    perplexity: Positive
    bits_per_byte: Positive
    bits_per_byte_ci95: Interval | None = None
    ngram_gap_closed: float | None = None
    minimal_pair_acc: Share | None = None

    @property
    def nats_per_bit(self) -> float:
        """Nats a token that one bit a byte comes to, with this tokenizer."""
        return self.val_loss / self.bits_per_byte


class Training(Result):
    """train.json"""

    section: ClassVar[str] = "train"

    steps: int
    tokens: int
    epochs: float
    parameters: int
    dtype: str
    device: str
    init_from: str | None = None  # the folder of the weights that it began with; else they were drawn


class Tokens(Result):
    """tokens.json"""

    section: ClassVar[str] = "tokens"

    train_tokens: int
    validation_tokens: int
    bytes_per_token: float


class StoryQuality(Result):
    """eval_samples.json: the stories at the temperature of the section `sample`."""

    section: ClassVar[str] = "eval_samples"

    copy_rate: Share
    consistency: Share | None = None


class Score(Result):
    """datasets/NAME.json, there under NAME: the model on a further text."""

    section: ClassVar[str] = "eval_dataset"

    bits_per_byte: Positive
    word_perplexity: Positive | None = None
    last_word_accuracy: Share | None = None


class Network(Result):
    """config.json of the model"""

    section: ClassVar[str] = "config"

    vocab_size: Annotated[int, Field(ge=1)]
    model: ModelParams

    def flops_per_token(self, n_params: int) -> int:
        """Operations to train on one token: 6N + 12·L·C·T (Chowdhery et al. 2022, appendix B).

        N are the parameters but for embeddings that are only looked up, L layers, C channels, T the context.
        """
        sizes = self.model
        if sizes.architecture == "classic":
            n_params -= sizes.block_size * sizes.n_embd  # positions; the embedding of tokens is the head
        elif not sizes.tied:
            n_params -= self.vocab_size * sizes.n_embd
        return 6 * n_params + 12 * sizes.n_layer * sizes.n_embd * sizes.block_size


class Insight(Result):
    """inspection.json; slm/generate/inspection.py says what the keys mean."""

    model_config = ConfigDict(strict=False)
    section: ClassVar[str] = "inspection"

    given: Annotated[int, Field(ge=0)]
    tokens: Annotated[list[str], Field(min_length=1)]
    probabilities: list[Share]
    alternatives: list[list[tuple[str, Share]]]
    attention: list[list[list[list[Share]]]]  # [layer][head][t][s]

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if not len(self.tokens) == len(self.probabilities) == len(self.alternatives):
            raise ValueError("tokens, probabilities and alternatives should be equally many")
        sizes = {len(row) for layer in self.attention for head in layer for row in [head, *head]}
        if len(sizes) != 1 or not 0 < max(sizes) <= len(self.tokens):
            raise ValueError("attention should be square, with no more rows than there are tokens")
        return self
