"""Write with a trained model, in the terminal: a story, or one after the other.

    python -m slm.cli.generate "Once upon a time"
    echo "Once upon a time" | python -m slm.cli.generate --temperature 0.5
    python -m slm.cli.generate                                # a prompt a line, and a story for each
    python -m slm.cli.generate --chat --model models/wishes   # with a tuned model: requests, and answers

The first prints the prompt, too, and a seed that writes the same again.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm.core.errors import UserError, run_command
from slm.generate.params import DEFAULTS, GenerationParams, check_text, generation_params
from slm.sft import chat
from slm.sft.conversations import Turn

if TYPE_CHECKING:
    from slm.inference import Writer

OPTIONS = {  # of GenerationParams: type and meaning
    "max_new_tokens": (int, "tokens after which a story has to stop"),
    "temperature": (float, "0: always the likeliest token"),
    "top_k": (int, "draw from this many of the likeliest tokens"),
    "top_p": (float, "draw from the fewest tokens that have this share of the probability"),
    "min_p": (float, "draw from the tokens with at least this part of the likeliest's probability"),
    "repetition_penalty": (float, "above 1 makes tokens that the text already has less likely"),
    "seed": (int, "the same one writes the same story; by default a new one each time"),
}
HISTORY = Path(".slm/history")  # what was typed
HELP = {
    False: "A prompt and Enter: a story that begins so. Enter alone: one from nothing.",
    True: "A request and Enter: an answer. The model sees what was said before; Enter alone begins anew.",
}
KEYS = "/temperature 0.5: another temperature; / alone: all options. Ctrl-C stops it, Ctrl-D leaves.\n"

Respond = Callable[[str, GenerationParams], object]  # to a line that was typed


def main() -> None:
    """Write one story, or one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m slm.cli.generate", description="Write with a trained model."
    )
    parser.add_argument("prompt", nargs="?", help="how the story begins; by default what is piped in")
    parser.add_argument("--model", type=Path, default=Path("models"), help="the folder of the model (models)")
    parser.add_argument("--chat", action="store_true", help="of a tuned model: requests, and answers")
    for name, (kind, meaning) in OPTIONS.items():
        default = f" ({DEFAULTS[name]:g})" if DEFAULTS.get(name) else ""
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=meaning + default)
    arguments = vars(parser.parse_args())
    options = {name: arguments[name] for name in OPTIONS if arguments[name] is not None}
    prompt = arguments["prompt"]
    interactive = prompt is None and sys.stdin.isatty()
    if prompt is None and not interactive:
        prompt = _piped()

    params, prompt = generation_params(**options), _checked(prompt or "")
    from slm.inference import load  # after the arguments: torch takes its time

    writer = load(arguments["model"])
    respond = Talk(writer) if arguments["chat"] else partial(tell, writer)
    try:
        if interactive:
            print(HELP[arguments["chat"]], KEYS, sep="\n")
            converse(respond, options)
            return
        respond(prompt, params)
    except BrokenPipeError:  # whoever reads it has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if "seed" not in options:
        print(f"(seed {params.seed})", file=sys.stderr)


def tell(writer: "Writer", prompt: str, params: GenerationParams) -> None:
    """Print a prompt and the story as it is written."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"{bold}{prompt}{plain}", end="", flush=True)
    _show(writer, prompt, params)


class Talk:
    """A conversation with a tuned model."""

    def __init__(self, writer: "Writer"):
        self._writer = writer
        self._turns: list[Turn] = []

    def __call__(self, request: str, params: GenerationParams) -> None:
        """Print the answer as it is written; an empty request begins another conversation."""
        if not request.strip():
            self._turns.clear()
            return
        block_size = self._writer.model.params.block_size
        if n := chat.n_dropped(self._turns, request, self._writer.n_tokens, block_size):
            print(f"(it no longer sees the first {'request' if n == 1 else f'{n} requests'})")
            del self._turns[:n]
        answer = _show(self._writer, chat.render(self._turns, request), params)
        self._turns.append(Turn(request, answer))


def _show(writer: "Writer", prompt: str, params: GenerationParams) -> str:
    """Print what follows a prompt as it is written, and give it."""
    pieces = []
    try:
        for piece in writer.stream(prompt, **params.model_dump()):
            print(piece, end="", flush=True)
            pieces.append(piece)
    finally:
        print()
    return "".join(pieces)


def converse(respond: Respond, options: dict[str, Any]) -> None:
    """Respond to lines until the end of the input; what was typed is kept for the next time."""
    with suppress(ImportError):  # where there is no readline, there are no arrow keys
        import readline

        with suppress(OSError):
            readline.read_history_file(HISTORY)
    while True:
        try:
            line = input("> ")
            if line.startswith("/"):
                options = _changed(options, line)
            else:
                params = generation_params(**options)
                respond(_checked(line), params)
                print(f"(seed {params.seed})\n")
        except EOFError:
            print()
            break
        except UserError as error:
            print(error)
        except KeyboardInterrupt:
            print("(stopped; Ctrl-D ends it)\n")
    with suppress(ImportError, OSError):
        HISTORY.parent.mkdir(exist_ok=True)
        readline.write_history_file(HISTORY)


def _changed(options: dict[str, Any], line: str) -> dict[str, Any]:
    """The options after a line such as "/top_k 50"; prints them. Raises UserError if it is wrong."""
    name, _, value = line[1:].strip().partition(" ")
    name, changed = name.replace("-", "_"), dict(options)
    if name:
        if name not in OPTIONS:
            raise UserError(f"must be one of /{', /'.join(OPTIONS)}, got /{name}")
        try:
            changed[name] = OPTIONS[name][0](value) if value.strip() else None
        except ValueError:
            raise UserError(f"/{name}: {value!r} is no number") from None
        changed = {key: found for key, found in changed.items() if found is not None}
    shown = generation_params(**changed).model_dump(exclude=set() if "seed" in changed else {"seed"})
    print(
        *(f"{key} {'off' if found is None else found}" for key, found in shown.items()), sep=", ", end="\n\n"
    )
    return changed


def _piped() -> str:
    """The prompt that comes through a pipe; a line break at its end is not meant."""
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"the prompt is not UTF-8 at byte {error.start}") from None


def _checked(prompt: str) -> str:
    try:
        return check_text(prompt)
    except ValueError as error:
        raise UserError(f"prompt: {error}") from None


if __name__ == "__main__":
    run_command(main)
