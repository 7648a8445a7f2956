"""Export a model as a folder that Hugging Face's transformers loads without code of this project."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
from tokenizers import Tokenizer, processors

from slm.core.files import convert_write_errors, write_json, write_text
from slm.export.card import model_card
from slm.model.gpt import GPT
from slm.model.huggingface import to_config, to_weights
from slm.report.card import Facts
from slm.tokenizer.tokenizer import END_OF_TEXT, end_of_text_id


def write_folder(model: GPT, tokenizer: Tokenizer, facts: Facts | None, folder: Path) -> None:
    """Write the model, its tokenizer and its model card to a folder that is new or empty.

    The write is atomic. Raises UserError if it fails, also because the folder is not empty.
    """
    end_of_text = end_of_text_id(tokenizer)
    special_ids = {"bos_token_id": end_of_text, "eos_token_id": end_of_text, "pad_token_id": end_of_text}
    weights = {name: weight.contiguous() for name, weight in to_weights(model).items()}
    # Write to a temporary folder beside the target and rename it, so that the export is complete or absent.
    with convert_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp") as temporary:
            new = Path(temporary, folder.name)
            new.mkdir()
            write_json(new / "config.json", to_config(model, end_of_text))
            write_json(new / "generation_config.json", {**special_ids, "do_sample": False})
            (new / "model.safetensors").write_bytes(safetensors.torch.save(weights, {"format": "pt"}))
            write_text(new / "tokenizer.json", tokenizer_with_bos(tokenizer).to_str(pretty=True) + "\n")
            write_json(new / "tokenizer_config.json", tokenizer_config(model))
            write_text(new / "README.md", model_card(model, facts))
            new.replace(folder)


def tokenizer_with_bos(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy of the tokenizer that adds `<|endoftext|>` before each text, as in training."""
    exported = Tokenizer.from_str(tokenizer.to_str())
    exported.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A {END_OF_TEXT} $B",
        special_tokens=[(END_OF_TEXT, end_of_text_id(tokenizer))],
    )
    return exported


def tokenizer_config(model: GPT) -> dict[str, Any]:
    """Return tokenizer_config.json.

    It has no padding token: training code masks padding targets, so with `<|endoftext|>` as padding token
    further training would unlearn to end a text.
    """
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.params.block_size,
    }
