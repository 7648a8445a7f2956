"""`slm generate`: generate text with a trained model in the terminal."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm.core.errors import UserError
from slm.generate.params import DEFAULTS, GenerationParams, check_text, generation_params
from slm.sft.conversations import Turn, n_dropped, render

# slm.inference imports torch, which takes a second: --help and wrong arguments do without it.
if TYPE_CHECKING:
    from slm.inference import TextGenerator

DESCRIPTION = """\
Generate text with a trained model and print it token by token.

Without a prompt in a terminal, prompts are read line by line; the session keeps a history and takes
commands such as /temperature 0.5. Otherwise one prompt is continued, from the argument or from stdin."""
EXAMPLES = """\
examples:
  slm generate "Once upon a time"
  echo "Once upon a time" | slm generate --temperature 0
  slm generate
  slm generate --chat --model models/wishes"""
# Type and help of each option of GenerationParams.
OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "max_new_tokens": (int, "maximum number of tokens to generate, 1 to 1,000,000"),
    "temperature": (float, "sampling temperature, 0 to 1000; 0: greedy decoding"),
    "top_k": (int, "number of most likely tokens to sample from, at least 1"),
    "top_p": (float, "total probability of the most likely tokens to sample from, above 0 to 1"),
    "min_p": (float, "minimum probability of tokens to sample from, as a fraction of the highest, 0 to 1"),
    "repetition_penalty": (float, "penalty for tokens that the text already contains, 0.01 to 100; 1: off"),
    "seed": (int, "random seed, at least 0"),
}
HISTORY_FILE = Path(".slm/history")
INTRODUCTION = """\
Type a prompt and press Enter: the model continues it. An empty line starts a text from scratch."""
CHAT_INTRODUCTION = """\
Type a message and press Enter: the model answers. An empty line starts a new conversation."""
KEYS = "/temperature 0.5 sets an option, / lists all options, Ctrl-C stops the text, Ctrl-D quits.\n"

# Prints the model's response to a line of input.
Respond = Callable[[str, GenerationParams], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `slm generate`, its description and examples."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="text to continue (default: read stdin)")
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("models"),
        metavar="DIR",
        help="folder of the trained model (default: %(default)s)",
    )
    parser.add_argument(
        "--chat", action="store_true", help="chat with a fine-tuned model (default: continue the prompt)"
    )
    for name, (value_type, text) in OPTIONS.items():
        value = DEFAULTS.get(name)
        default = "random" if name == "seed" else "off" if value is None else f"{value:g}"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=value_type,
            metavar="INT" if value_type is int else "FLOAT",
            help=f"{text} (default: {default})",
        )


def run(args: argparse.Namespace) -> None:
    """Continue one prompt, or start an interactive session."""
    options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    interactive = args.prompt is None and sys.stdin.isatty()
    prompt = "" if interactive else _read_stdin() if args.prompt is None else args.prompt
    params, prompt = _check_options(options, flag_prefix="--"), _check_prompt(prompt)

    from slm.inference import load

    generator = load(args.model)
    respond = Chat(generator) if args.chat else partial(print_continuation, generator)
    if interactive:
        print(CHAT_INTRODUCTION if args.chat else INTRODUCTION, KEYS, sep="\n")
        run_session(respond, options)
        return
    try:
        respond(prompt, params)
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does. Python would fail again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if "seed" not in options:
        print(f"(seed {params.seed})", file=sys.stderr)


def print_continuation(generator: "TextGenerator", prompt: str, params: GenerationParams) -> None:
    """Print a prompt and its continuation, token by token."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"{bold}{prompt}{plain}", end="", flush=True)
    _print_stream(generator, prompt, params)


class Chat:
    """A conversation with a fine-tuned model."""

    def __init__(self, generator: "TextGenerator"):
        self._generator = generator
        self._turns: list[Turn] = []

    def __call__(self, message: str, params: GenerationParams) -> None:
        """Print the answer to a message, token by token. An empty message starts a new conversation."""
        if not message.strip():
            self._turns.clear()
            return
        block_size = self._generator.model.params.block_size
        if n := n_dropped(self._turns, message, self._generator.count_tokens, block_size):
            print(f"(context full: dropped the first {'turn' if n == 1 else f'{n} turns'})")
            del self._turns[:n]
        answer = _print_stream(self._generator, render(self._turns, message), params)
        self._turns.append(Turn(message, answer))


def _print_stream(generator: "TextGenerator", prompt: str, params: GenerationParams) -> str:
    """Print the continuation of a prompt token by token, and return it."""
    parts = []
    try:
        for part in generator.stream(prompt, **params.model_dump()):
            print(part, end="", flush=True)
            parts.append(part)
    finally:
        print()
    return "".join(parts)


def run_session(respond: Respond, options: dict[str, Any]) -> None:
    """Respond to lines of input until it ends. Lines are kept in HISTORY_FILE."""
    # Some builds of Python have no readline; the session works without history and line editing.
    with suppress(ImportError):
        import readline

        with suppress(OSError):
            readline.read_history_file(HISTORY_FILE)
    while True:
        try:
            line = input("> ")
            if line.startswith("/"):
                options = _set_option(options, line)
            else:
                params = _check_options(options)
                respond(_check_prompt(line), params)
                print(f"(seed {params.seed})\n")
        except EOFError:
            print()
            break
        except UserError as error:
            print(error)
        except KeyboardInterrupt:
            print("(stopped; Ctrl-D quits)\n")
    with suppress(ImportError, OSError):
        HISTORY_FILE.parent.mkdir(exist_ok=True)
        readline.write_history_file(HISTORY_FILE)


def _set_option(options: dict[str, Any], line: str) -> dict[str, Any]:
    """Return the options after a line such as "/top_k 50", and print them. Raises UserError."""
    name, _, value = line[1:].strip().partition(" ")
    name, changed = name.replace("-", "_"), dict(options)
    if name:
        if name not in OPTIONS:
            raise UserError(f"/{name}: must be one of: /{', /'.join(OPTIONS)}")
        # Without a value the option gets its default again.
        changed.pop(name, None)
        if value.strip():
            value_type = OPTIONS[name][0]
            try:
                changed[name] = value_type(value)
            except ValueError:
                raise UserError(
                    f"/{name}: must be {'an integer' if value_type is int else 'a number'}, got {value!r}"
                ) from None
    # A random seed changes with each text.
    hidden = set() if "seed" in changed else {"seed"}
    values = _check_options(changed).model_dump(exclude=hidden)
    settings = [f"{key} {'off' if value is None else value}" for key, value in values.items()]
    print(*settings, sep=", ", end="\n\n")
    return changed


def _check_options(options: dict[str, Any], flag_prefix: str = "/") -> GenerationParams:
    """Check the options. Raises UserError that names each wrong one as the user wrote it."""

    def flag(match: re.Match[str]) -> str:
        name = match[1] if flag_prefix == "/" else match[1].replace("_", "-")
        return f"{flag_prefix}{name}: "

    try:
        return generation_params(**options)
    except UserError as error:
        raise UserError(re.sub(r"^slm: options\.(\w+): ", flag, str(error), flags=re.MULTILINE)) from None


def _read_stdin() -> str:
    """Return the prompt from stdin without the line break at its end."""
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"prompt: not UTF-8 at byte {error.start}") from None


def _check_prompt(prompt: str) -> str:
    try:
        return check_text(prompt)
    except ValueError as error:
        raise UserError(f"prompt: {error}") from None
