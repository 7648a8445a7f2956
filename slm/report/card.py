"""The model card (Mitchell et al. 2019): the facts about a model, for the report and for exported models."""

from pathlib import Path
from typing import NamedTuple

from slm.core.files import read_result
from slm.data.summary import CorpusSummary, read_summary
from slm.model.params import ModelConfig, ModelParams
from slm.report.display import millions, power_of_ten
from slm.results.eval import EvalMetrics
from slm.results.tokens import TokensMetrics
from slm.results.train import TrainDetails, TrainMetrics

# SPDX identifiers of datasets whose card does not state a license.
LICENSES = {"roneneldan/TinyStories": "CDLA-Sharing-1.0"}
UNKNOWN_LICENSE = "unknown, see the source"
ACTIVATIONS = {"gelu": "GELU", "relu2": "ReLU²", "swiglu": "SwiGLU"}


class Facts(NamedTuple):
    """The results that a model card states."""

    corpus: CorpusSummary
    tokens: TokensMetrics
    model: ModelConfig
    train: TrainMetrics
    train_details: TrainDetails
    eval: EvalMetrics


def read_facts(root: Path, model: Path) -> Facts:
    """Read the results of the project `root` that a card of the model in the folder `model` states.

    Raises UserError for the first missing or invalid file.
    """
    reports = root / "reports"
    return Facts(
        corpus=read_summary(root / "data/corpus/summary.json"),
        tokens=read_result(reports / "tokens.json", TokensMetrics),
        model=read_result(model / "config.json", ModelConfig),
        train=read_result(reports / "train.json", TrainMetrics),
        train_details=read_result(reports / "details/train.json", TrainDetails),
        eval=read_result(reports / "eval.json", EvalMetrics),
    )


def card_entries(facts: Facts) -> dict[str, str]:
    """Return the entries of the model card: heading → text."""
    corpus, train, details, params = facts.corpus, facts.train, facts.train_details, facts.model.model
    flops = facts.model.flops_per_token(train.num_params) * train.tokens_seen
    train_size = f"{corpus.train.documents:,} documents, {corpus.train.bytes / 1e6:,.3g} MB"
    shape = f"{params.n_layer} layers, {params.n_head} heads, {params.n_embd} channels"
    tokens_seen = f"{millions(train.tokens_seen)} tokens ({details.epochs:.3g} epochs)"
    compute = f"about {power_of_ten(flops)} FLOPs in {details.dtype} on {details.device}"
    init = {"Initial weights": f"from {details.init_from}"} if details.init_from else {}
    return {
        "Size": f"{millions(train.num_params)} parameters, vocabulary of {facts.model.vocab_size:,} tokens",
        "Architecture": f"{describe_architecture(params)}; {shape}",
        "Context": f"{params.block_size:,} tokens, about "
        f"{params.block_size * facts.tokens.bytes_per_token:,.0f} bytes",
        "Training data": f"{data_source(corpus)}: {train_size}; {corpus.validation.documents:,} held out",
        "License of the training data": data_license(corpus),
        **init,
        "Training": f"{details.steps:,} steps, {tokens_seen}, {compute}",
    }


def describe_architecture(params: ModelParams) -> str:
    """Return the architecture with its components: position embeddings, norm, activation, tied weights."""
    if params.architecture == "gpt2":
        return "GPT-2 (learned positions, LayerNorm, GELU, tied embeddings)"
    grouped = f"{params.kv_heads} key-value heads, " if params.kv_heads < params.n_head else ""
    embeddings = "tied embeddings" if params.tie_embeddings else "untied embeddings"
    return f"Transformer (RoPE, RMSNorm, QK-norm, {grouped}{ACTIVATIONS[params.activation]}, {embeddings})"


def data_source(corpus: CorpusSummary) -> str:
    """Return the origin of the documents."""
    if corpus.source == "hub":
        return f"{corpus.name}, from the Hugging Face Hub"
    return "local files" if corpus.source == "files" else corpus.source.partition(": ")[2]


def data_license(corpus: CorpusSummary) -> str:
    """Return the license of the documents, or UNKNOWN_LICENSE."""
    if corpus.is_of_grammar:
        return f"{corpus.license}, the project’s own"
    license_id = LICENSES.get(corpus.name, corpus.license)
    return UNKNOWN_LICENSE if license_id in ("", "not stated") else license_id
