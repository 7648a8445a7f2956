"""Help and usage errors of the `slm` command."""

import argparse
import subprocess
import sys
from importlib import import_module

import pytest

from slm.cli.main import COMMANDS, MODULES
from tests.project import ROOT, run_slm

# Runs `slm` and prints at the end whether torch was imported.
WITHOUT_TORCH = """
import sys
from slm.cli.main import main
try:
    main()
finally:
    print("torch" in sys.modules)
"""


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of a command's arguments."""
    parser = argparse.ArgumentParser(prog=f"slm {command}")
    import_module(f"slm.cli.{MODULES.get(command, command)}").add_arguments(parser)
    return parser


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_description_and_defaults(command):
    parser = parser_of(command)
    assert parser.description
    for action in parser._actions[1:]:
        assert action.help, action.dest
        takes_value = action.option_strings and action.nargs != 0
        if takes_value and not action.required:
            assert "(default: " in action.help, action.dest


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_printed_with_an_example(command):
    result = run_slm(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: slm {command} [-h]")
    assert f"\n  slm {command}" in result.stdout


def test_help_lists_the_commands():
    result = run_slm("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for command, text in COMMANDS.items():
        assert f"\n  {command:<10} {text}\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "slm: error: the following arguments are required: COMMAND"),
        (("train",), "slm: error: argument COMMAND: invalid choice: 'train' (choose from "),
    ],
)
def test_missing_or_unknown_command_is_one_line(arguments, line):
    result = run_slm(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    usage, error = result.stderr.splitlines()
    assert usage == "usage: slm [-h] COMMAND ..."
    assert error.startswith(line)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        *(((command, "--help"), 0) for command in COMMANDS),
        (("generate", "--temperature", "warm"), 2),
        (("generate", "Once", "--temperature", "-1"), 1),
        (("serve", "--port", "65536"), 1),
        (("export", "--to", "hf", "new", "--quantize", "q8_0"), 1),
    ],
)
def test_help_and_wrong_arguments_do_not_import_torch(arguments, status):
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    assert result.stdout.splitlines()[-1] == "False"
