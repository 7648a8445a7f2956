"""Write the model card (Mitchell et al. 2019) of an exported model, the README.md that the Hub displays."""

from pathlib import Path

from slm.data.summary import CorpusSummary
from slm.generate.markdown import table
from slm.model.gpt import GPT, count_params
from slm.model.huggingface import model_type
from slm.report.card import Facts, card_entries, describe_architecture, read_facts
from slm.report.display import millions

USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = AutoModelForCausalLM.from_pretrained("this/folder")
ids = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=200)[0], skip_special_tokens=True))
```"""
# The limit of the context, by architecture in transformers.
CONTEXT = {
    "gpt2": "It has {size:,} positions: a text, with the `<|endoftext|>` before it, cannot be longer.",
    "nanochat": (
        "It was trained to attend to at most {size:,} tokens, but NanoChat's class attends to the entire "
        "text: keep a text, with the `<|endoftext|>` before it, within {size:,} tokens."
    ),
    "qwen3": "It attends to at most {size:,} tokens (`sliding_window`), in a text of any length.",
}


def find_facts(model: Path) -> Facts | None:
    """Read the results beside the folder `model`; None if there are none, as for a fine-tuned model.

    Raises UserError if only some of them exist.
    """
    root = model.parent
    if not any((root / folder).exists() for folder in ("data", "reports")):
        return None
    return read_facts(root, model)


def model_card(model: GPT, facts: Facts | None) -> str:
    """Return the model card in Markdown; without `facts` it has no results and no training data."""
    limits = [
        "It generates texts like its training data; statements in them may be false.",
        CONTEXT[model_type(model.params)].format(size=model.params.block_size),
        "In training, each text followed an `<|endoftext|>`, so the tokenizer adds one before each text "
        "(`add_special_tokens=False` leaves it out).",
        "A literal `<|endoftext|>` in a text is encoded as the special token.",
    ]
    return "\n\n".join(
        [
            _front_matter(facts.corpus if facts else None),
            f"# A language model of {millions(count_params(model))} parameters",
            *(_results(facts) if facts else [_table({"Architecture": describe_architecture(model.params)})]),
            "## Use",
            USE,
            "## Limits",
            "\n".join(f"- {limit}" for limit in limits) + "\n",
        ]
    )


def _results(facts: Facts) -> list[str]:
    """Return the properties of the model and its metrics on the validation split."""
    result = facts.eval
    metrics = {
        "loss": f"{result.val_loss:.4f} nats per token",
        "perplexity": f"{result.perplexity:,.4g}",
        "bits per byte": f"{result.bits_per_byte:.4f}",
    }
    return [_table(card_entries(facts)), "On the held-out texts:", _table(metrics)]


def _front_matter(corpus: CorpusSummary | None) -> str:
    """Return the metadata for the Hub.

    It names a license only if all training data comes from the story grammar. For other data, the owner of
    the model must choose one.
    """
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    if corpus:
        lines += ["license: mit"] if corpus.is_synthetic else []
        lines += [f"datasets: [{corpus.name}]"] if corpus.source == "hub" else []
    return "\n".join(["---", *lines, "---"])


def _table(rows: dict[str, str]) -> str:
    return table(["", ""], rows.items(), align="ll")
