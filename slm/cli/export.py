"""`slm export`: convert a trained model for other programs."""

import argparse
from pathlib import Path

from slm.core.errors import UserError

DESCRIPTION = """\
Convert a trained model: `hf` writes a folder for Hugging Face's transformers, with the weights, the
tokenizer and a model card; `gguf` writes a file for llama.cpp. Prints the path that was written."""
EXAMPLES = """\
examples:
  slm export --to hf exported
  slm export --to gguf exported.gguf --quantize q8_0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `slm export`, its description and examples."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="folder (hf) or file (gguf) to create; an existing one is not overwritten",
    )
    parser.add_argument("--to", choices=("hf", "gguf"), required=True, help="format to convert to (required)")
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("models"),
        metavar="DIR",
        help="folder of the trained model (default: %(default)s)",
    )
    parser.add_argument(
        "--quantize",
        choices=("q8_0",),
        help="with --to gguf, store matrices with 8 bits per weight (default: float32)",
    )


def run(args: argparse.Namespace) -> None:
    """Convert the model in `args.model` and print the path that was written.

    Raises UserError if the path is a file or a folder that is not empty.
    """
    if args.quantize and args.to != "gguf":
        raise UserError(f"--quantize: requires --to gguf, got --to {args.to}")
    if args.out.is_file() or (args.out.is_dir() and (args.to == "gguf" or any(args.out.iterdir()))):
        raise UserError(f"{args.out}: already exists; delete it, or choose another name")

    # These import torch, which takes a second: --help and wrong arguments do without it.
    from slm.model.gpt import load_model
    from slm.tokenizer.tokenizer import load

    tokenizer = load(args.model / "tokenizer.json")
    model = load_model(args.model, vocab_size=tokenizer.get_vocab_size())
    if args.to == "hf":
        from slm.export.card import find_facts
        from slm.export.huggingface import write_folder

        write_folder(model, tokenizer, find_facts(args.model), args.out)
    else:
        from slm.export.gguf import write_gguf

        write_gguf(model, tokenizer, args.out, args.quantize)
    print(args.out)
