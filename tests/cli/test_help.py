"""The help of each command of slm, and how quickly a wrong argument is reported."""

import argparse
import subprocess
import sys
from importlib import import_module

import pytest

from slm.cli.main import COMMANDS, MODULES
from tests.project import ROOT

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
    parser = argparse.ArgumentParser(prog=f"slm {command}")
    import_module(f"slm.cli.{MODULES.get(command, command)}").add_arguments(parser)
    return parser


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_the_command_and_each_argument_with_its_default(command):
    parser = parser_of(command)
    assert parser.description
    for action in parser._actions[1:]:
        assert action.help, action.dest
        takes_value = action.option_strings and action.nargs != 0
        if takes_value and not action.required:
            assert "(default: " in action.help, action.dest


@pytest.mark.parametrize("command", COMMANDS)
def test_help_gives_an_example(command):
    assert f"\n  slm {command}" in parser_of(command).format_help()


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
