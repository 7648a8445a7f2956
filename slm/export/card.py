"""The card of an exported model (Mitchell et al. 2019), as the README.md that the Hugging Face Hub shows."""

from pathlib import Path

from slm.core.markdown import table
from slm.data.summary import CorpusSummary
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
CONTEXT = {  # of each architecture
    "gpt2": "It has {size:,} positions: a text, with the `<|endoftext|>` before it, cannot be longer.",
    "nanochat": (
        "It has learned to look back at {size:,} tokens at most, but NanoChat's class looks back at all of a "
        "text: keep a text, with the `<|endoftext|>` before it, within {size:,} tokens."
    ),
    "qwen3": "It looks back at {size:,} tokens at most (`sliding_window`), at any length of text.",
}


def find_facts(model: Path) -> Facts | None:
    """Read the results beside the folder `model`; None if there are none, as for a fine-tuned model.

    Raises UserError if only some of them are there.
    """
    root = model.parent
    if not any((root / folder).exists() for folder in ("data", "reports")):
        return None
    return read_facts(root, model)


def model_card(model: GPT, facts: Facts | None) -> str:
    """The whole page; without `facts` it says only what the model itself tells."""
    limits = [
        "It writes texts like those it has learned from; what it says need not be true.",
        CONTEXT[model_type(model.params)].format(size=model.params.block_size),
        "The texts it has learned from follow an `<|endoftext|>`, so the tokenizer puts one before each text "
        "(`add_special_tokens=False` leaves it out).",
        "A `<|endoftext|>` that is written out in a text is taken for the token.",
    ]
    return "\n\n".join(
        [
            _front_matter(facts.corpus if facts else None),
            f"# A language model of {millions(count_params(model))} parameters",
            *(_findings(facts) if facts else [_table({"Architecture": describe_architecture(model.params)})]),
            "## Use",
            USE,
            "## Limits",
            "\n".join(f"- {limit}" for limit in limits) + "\n",
        ]
    )


def _findings(facts: Facts) -> list[str]:
    """What it was made of, and how good it is."""
    result = facts.eval
    numbers = {
        "loss": f"{result.val_loss:.4f} nats per token",
        "perplexity": f"{result.perplexity:,.4g}",
        "bits per byte": f"{result.bits_per_byte:.4f}",
    }
    return [_table(card_entries(facts)), "On the texts that were held out:", _table(numbers)]


def _front_matter(corpus: CorpusSummary | None) -> str:
    """What the Hub reads. Under what license a model of other people's texts goes, its owner has to say."""
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    if corpus:
        lines += ["license: mit"] if corpus.is_synthetic else []
        lines += [f"datasets: [{corpus.name}]"] if corpus.source == "hub" else []
    return "\n".join(["---", *lines, "---"])


def _table(rows: dict[str, str]) -> str:
    return table(["", ""], rows.items(), align="ll")
