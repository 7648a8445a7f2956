"""Results of the stages sft and eval_sft; the curves are those of slm.results.train."""

from slm.core.config import StrictModel
from slm.core.files import Count, Details, Fraction, Interval, Positive
from slm.results.train import TrainMetrics, TrainSummary


class SFTTrainDetails(TrainSummary, TrainMetrics, Details):
    """models/NAME.train.json: the fine-tuning run."""


class SFTMetrics(StrictModel):
    """reports/sft/NAME/eval.json: the fine-tuned model on held-out prompts."""

    # None where no prompt has a constraint that counts, or a single right answer.
    constraint_acc: Fraction | None = None
    exact_match: Fraction | None = None
    # Nats per answer token.
    val_loss: Positive


class SFTScores(SFTMetrics):
    """The metrics of one model with their 95 % intervals and numbers of cases."""

    constraint_acc_ci95: Interval | None = None
    constraint_acc_count: Count = 0
    exact_match_ci95: Interval | None = None
    exact_match_count: Count = 0

    def metrics(self) -> SFTMetrics:
        """Return the metrics alone."""
        return SFTMetrics(**self.model_dump(include=set(SFTMetrics.model_fields)))


class SFTDetails(Details):
    """models/NAME.eval.json: the fine-tuned model and the base model."""

    sft: SFTScores
    base: SFTScores


class ConstraintRow(StrictModel):
    """A row of constraints.csv: the constraints of one kind."""

    kind: str
    constraints: Count
    satisfied: Fraction
    # How often the same stories satisfy the constraints of other prompts.
    chance: Fraction
    # Whether the constraint is too unlikely to be satisfied by chance, so that constraint_acc includes it.
    counts: bool
    # Of the base model.
    base_satisfied: Fraction
