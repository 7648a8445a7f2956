"""The `slm` command: use a trained model, apply recipes and check params."""

import argparse
import sys
from importlib import import_module

from slm.core.errors import run_command

COMMANDS = {
    "generate": "write text in the terminal",
    "serve": "serve a model over HTTP, with a web page",
    "export": "convert a model for transformers or llama.cpp",
    "check": "check params.yaml",
    "recipe": "list recipes, or apply one to params.yaml",
}
MODULES = {"recipe": "recipes"}
DESCRIPTION = (
    "Train small language models reproducibly. The pipeline itself runs with DVC: dvc repro, dvc exp run."
)


def main() -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="slm", description=DESCRIPTION)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.epilog = "commands:\n" + "".join(f"  {name:<10} {text}\n" for name, text in COMMANDS.items())
    parser.epilog += "\n`slm COMMAND --help` shows the options of a command."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    name = parser.parse_args(sys.argv[1:2]).command

    # Only the module of this command is imported, so that every command starts quickly.
    command = import_module(f"slm.cli.{MODULES.get(name, name)}")
    options = argparse.ArgumentParser(prog=f"slm {name}", formatter_class=parser.formatter_class)
    command.add_arguments(options)
    args = options.parse_args(sys.argv[2:])
    run_command(lambda: command.run(args))
