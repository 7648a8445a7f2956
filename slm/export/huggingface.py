"""A model as a folder that Hugging Face's transformers loads, without any code of this project."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
from tokenizers import Tokenizer, processors

from slm.core.errors import UserError
from slm.core.files import convert_write_errors, write_json, write_text
from slm.export.card import model_card
from slm.model.gpt import GPT
from slm.model.huggingface import to_config, to_weights
from slm.report.card import Facts
from slm.tokenizer.tokenizer import END_OF_TEXT, end_of_text_id


def write_folder(model: GPT, tokenizer: Tokenizer, facts: Facts | None, folder: Path) -> None:
    """Write the model, its tokenizer and its card to a new folder, which is there whole or not at all.

    Raises UserError if the folder is there and holds something.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder}: already there; give the name of a new folder")
    end_of_text = end_of_text_id(tokenizer)
    ends = {"bos_token_id": end_of_text, "eos_token_id": end_of_text, "pad_token_id": end_of_text}
    weights = {name: weight.contiguous() for name, weight in to_weights(model).items()}
    with convert_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp") as temporary:
            new = Path(temporary, folder.name)
            new.mkdir()
            write_json(new / "config.json", to_config(model, end_of_text))
            write_json(new / "generation_config.json", {**ends, "do_sample": False})
            (new / "model.safetensors").write_bytes(safetensors.torch.save(weights, {"format": "pt"}))
            write_text(new / "tokenizer.json", stock_tokenizer(tokenizer).to_str(pretty=True) + "\n")
            write_json(new / "tokenizer_config.json", tokenizer_config(model))
            write_text(new / "README.md", model_card(model, facts))
            new.replace(folder)


def stock_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with `<|endoftext|>` before each text, as the model has learned to begin."""
    found = Tokenizer.from_str(tokenizer.to_str())
    found.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A {END_OF_TEXT} $B",
        special_tokens=[(END_OF_TEXT, end_of_text_id(tokenizer))],
    )
    return found


def tokenizer_config(model: GPT) -> dict[str, Any]:
    """How transformers is to load tokenizer.json.

    There is no token to pad with: were it `<|endoftext|>`, further training would not learn to end a text.
    """
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.params.block_size,
    }
