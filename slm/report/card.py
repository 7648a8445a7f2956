"""The model's card (Mitchell et al. 2019): what it is, what it was made of, under what terms."""

from slm.data.summary import Corpus
from slm.model.params import ModelParams
from slm.report.headlines import millions
from slm.report.schema import Network, Tokens, Training

LICENCES = {"roneneldan/TinyStories": "CDLA-Sharing-1.0"}  # as SPDX spells it
NOT_KNOWN = "not known here: see the source"
NONLINEARITY = {"gelu": "GELU", "relu2": "ReLU²", "swiglu": "SwiGLU"}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
COMMAND = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt && dvc repro"


def card(corpus: Corpus, tokens: Tokens, network: Network, training: Training) -> dict[str, str]:
    """What is known of the model, by heading."""
    sizes = network.model
    context = sizes.block_size * tokens.bytes_per_token
    flops = network.flops_per_token(training.parameters) * training.tokens
    learned_from = f"{corpus.train.documents:,} documents, {corpus.train.bytes / 1e6:,.3g} MB"
    shape = f"{sizes.n_layer} layers of {sizes.n_embd} channels and {sizes.n_head} heads"
    seen = f"{millions(training.tokens)} tokens ({training.epochs:.3g} epochs)"
    effort = f"about {power_of_ten(flops)} operations, in {training.dtype} on {training.device}"
    start = {"Started from": f"the weights in {training.init_from}"} if training.init_from else {}
    return {
        "Size": f"{millions(training.parameters)} parameters; a vocabulary of {network.vocab_size:,}",
        "Architecture": f"{architecture(sizes)}; {shape}",
        "Context": f"{sizes.block_size:,} tokens, about {context:,.0f} bytes",
        "Data": f"{source(corpus)}: {learned_from}; {corpus.validation.documents:,} more were held out",
        "Licence of the data": licence(corpus),
        **start,
        "Training": f"{training.steps:,} steps over {seen}, {effort}",
    }


def architecture(sizes: ModelParams) -> str:
    """The kind of model, in the terms of the field."""
    if sizes.architecture == "classic":
        return "GPT, classic (learned positions, layer norm, GELU, its head is the embedding)"
    groups = f"{sizes.kv_heads} heads of keys and values, " if sizes.kv_heads < sizes.n_head else ""
    head = "its head is the embedding" if sizes.tied else "a head of its own"
    norms = "rotary positions, RMS norm, normed queries and keys"
    return f"GPT, modern ({norms}, {groups}{NONLINEARITY[sizes.mlp]}, {head})"


def source(corpus: Corpus) -> str:
    """Where the documents are from."""
    if corpus.source == "hub":
        return f"{corpus.name}, from the Hugging Face Hub"
    return "files of the user" if corpus.source == "files" else corpus.source.removeprefix("embedded: ")


def licence(corpus: Corpus) -> str:
    """Under what terms the documents may be used, as far as it is known."""
    if corpus.is_of_grammar:
        return f"{corpus.licence}, the project’s own"
    known = LICENCES.get(corpus.name, corpus.licence)
    return NOT_KNOWN if known in ("", "not stated") else known


def power_of_ten(number: float) -> str:
    """3.1 · 10¹³"""
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(SUPERSCRIPTS)}"
