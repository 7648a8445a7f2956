"""Take a trained model elsewhere.

    python -m slm.export --to hf DIR
    python -m slm.export --to gguf FILE.gguf [--quantize q8_0]

`hf` is a folder that Hugging Face's transformers loads, `gguf` a file for llama.cpp; docs/export.md has more.
"""

import argparse
from pathlib import Path

from slm.core.errors import UserError, run_command
from slm.export.card import find_facts
from slm.export.gguf import QUANTIZED, write_gguf
from slm.export.huggingface import write_folder
from slm.model.gpt import load_model
from slm.tokenizer.tokenizer import load


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m slm.export", description="Take a model elsewhere.")
    parser.add_argument("--to", choices=("hf", "gguf"), required=True, help="for transformers, for llama.cpp")
    parser.add_argument("out", type=Path, help="the folder, or the file, to write")
    parser.add_argument("--model", type=Path, default=Path("models"), help="default: models")
    parser.add_argument("--quantize", choices=QUANTIZED, help="of gguf: round matrices to 8 bits a weight")
    args = parser.parse_args()
    if args.quantize and args.to != "gguf":
        raise UserError("--quantize: only with --to gguf")
    tokenizer = load(args.model / "tokenizer.json")
    model = load_model(args.model, vocab_size=tokenizer.get_vocab_size())
    if args.to == "hf":
        write_folder(model, tokenizer, find_facts(args.model), args.out)
    else:
        write_gguf(model, tokenizer, args.out, args.quantize)
    print(args.out)


if __name__ == "__main__":
    run_command(main)
