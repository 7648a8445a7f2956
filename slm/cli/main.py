"""The `slm` command: use a trained model, apply recipes and check params."""

import argparse
import sys
from importlib import import_module

from slm.core.errors import run_command

COMMANDS = {
    "generate": "generate text in the terminal",
    "serve": "serve a trained model over HTTP, with a web page",
    "export": "convert a trained model for transformers or llama.cpp",
    "check": "check params.yaml and the files that it names",
    "recipe": "list recipes, or apply one to params.yaml",
}
MODULES = {"recipe": "recipes"}
DESCRIPTION = (
    "Train small language models reproducibly. The pipeline itself runs with DVC: dvc repro, dvc exp run."
)


def main() -> None:
    """Run the command that is named by the first argument."""
    # Parse the name of the command only: it has arguments of its own.
    parser = argparse.ArgumentParser(prog="slm", usage="slm [-h] COMMAND ...", description=DESCRIPTION)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="command to run, see below")
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
