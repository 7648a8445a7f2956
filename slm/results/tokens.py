"""Results of the stage tokenize."""

from slm.core.config import StrictModel
from slm.core.files import Count, Details, Positive


class TokensMetrics(StrictModel):
    """reports/tokens.json"""

    # Of the training split, without end-of-text tokens.
    bytes_per_token: Positive


class TokensDetails(Details):
    """reports/details/tokens.json"""

    vocab_size: Count
    train_tokens: Count
    validation_tokens: Count
