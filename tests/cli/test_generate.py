"""Generation with a trained model: `slm.load` and `slm generate`."""

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slm import load
from slm.cli.generate import Chat
from slm.core.errors import UserError
from slm.generate.batch import generate
from slm.generate.params import DEFAULTS, generation_params
from slm.inference import StreamDecoder
from slm.model.gpt import new_gpt, save_model
from slm.sft.conversations import Turn, render
from slm.tokenizer.tokenizer import END_OF_TEXT, encode, train_bpe
from tests.project import ROOT
from tests.tiny import model_params, sample_params

TEXT = "Once upon a time there was a “brave” 😀 boy. Zoë “found” a 漢字 drum 😀. " * 20
COMMAND = [sys.executable, "-m", "slm", "generate"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([TEXT], 300)


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer) -> Path:
    """Return a folder with an untrained model, in the layout of `models/`."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_model(new_gpt(model_params(block_size=16), tokenizer.get_vocab_size()), folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def run(*arguments: str, models: Path | None = None, **options) -> subprocess.CompletedProcess[str]:
    model = ["--model", str(models)] if models else []
    command = [*COMMAND, *model, *arguments]
    options = {"capture_output": True, "text": True, "timeout": 60, "check": False, "cwd": ROOT} | options
    return subprocess.run(command, **options)


def test_load_and_generate_decode_the_sampled_tokens(models, tokenizer):
    generator = load(models)
    text = generator.generate("Once", seed=3, max_new_tokens=30)
    params = sample_params(seed=3, max_new_tokens=30, temperature=DEFAULTS["temperature"], num_samples=1)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    [[ids]] = generate(generator.model, [encode(tokenizer, "Once")], params, end_of_text)
    assert text == tokenizer.decode(ids)
    assert text == generator.generate("Once", seed=3, max_new_tokens=30)
    # Without a seed, each text is another one.
    assert len({generator.generate("Once", max_new_tokens=30) for _ in range(3)}) == 3


def test_stream_joins_to_the_generated_text(models):
    generator = load(models)
    parts = list(generator.stream("Once", seed=4, max_new_tokens=20))
    assert len(parts) > 5
    assert "".join(parts) == generator.generate("Once", seed=4, max_new_tokens=20)


def test_wrong_option_and_missing_model_are_named(models, tmp_path):
    with pytest.raises(UserError, match=r"options\.temperature: must be greater"):
        load(models).generate("x", temperature=-1)
    with pytest.raises(UserError, match=r"options\.heat: unknown key; must be one of max_new_tokens"):
        load(models).generate("x", heat=1)
    with pytest.raises(UserError, match=r"tokenizer\.json: no such file; `dvc repro` makes it"):
        load(tmp_path)


@given(text=st.text())
def test_stream_decoder_restores_any_text(tokenizer, text):
    decoder = StreamDecoder(tokenizer)
    parts = [decoder.add(token) for token in encode(tokenizer, text)]
    assert "".join(parts) + decoder.flush() == text


def test_stream_decoder_holds_back_incomplete_characters(tokenizer):
    *first, last = encode(tokenizer, "💡")
    decoder = StreamDecoder(tokenizer)
    assert [decoder.add(token) for token in first] == [""] * len(first)
    assert decoder.flush() == "\N{REPLACEMENT CHARACTER}"
    assert decoder.add(last) == "💡"
    assert decoder.flush() == ""


def test_command_prints_prompt_continuation_and_seed(models):
    result = run("Once", "--max-new-tokens", "20", models=models)
    seed = int(result.stderr.removeprefix("(seed ").removesuffix(")\n"))
    expected = f"Once{load(models).generate('Once', seed=seed, max_new_tokens=20)}\n"
    # A random model also generates carriage returns, which subprocess reads as ends of lines.
    assert result.stdout == expected.replace("\r\n", "\n").replace("\r", "\n")


def test_prompt_is_read_from_stdin(models):
    result = run("--seed", "1", "--max-new-tokens", "20", models=models, input="Zoë “found”\n")
    prompt = "Zoë “found”"
    assert result.stdout == f"{prompt}{load(models).generate(prompt, seed=1, max_new_tokens=20)}\n"
    # A given seed is not printed.
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "stdin", "lines"),
    [
        (
            ["--temperature", "-3"],
            b"x",
            "--temperature: must be greater than or equal to 0, got -3.0",
        ),
        (
            ["--max-new-tokens", "0", "--top-p", "2"],
            b"x",
            "--max-new-tokens: must be greater than or equal to 1, got 0\n"
            "error: --top-p: must be less than or equal to 1, got 2.0",
        ),
        ([], b"a\xff", "prompt: not UTF-8 at byte 1"),
        ([b"a\xff"], b"", r"prompt: must be valid Unicode, got a lone surrogate in 'a\udcff'"),
    ],
)
def test_wrong_argument_or_prompt_is_named(arguments, stdin, lines):
    result = run(*arguments, input=stdin, text=False)
    assert (result.returncode, result.stdout, result.stderr.decode()) == (1, b"", f"error: {lines}\n")


def test_closed_pipe_ends_quietly(models):
    command = [*COMMAND, "Once", "--model", str(models), "--seed", "1", "--max-new-tokens", "5000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.read(4) == b"Once"
        process.stdout.close()
        assert process.stderr.read() == b""


def test_session_takes_prompts_and_options_and_keeps_history(models, tmp_path):
    story = f"Once\033[0m{load(models).generate('Once', seed=7, max_new_tokens=12)}"
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    command = [*COMMAND, "--model", str(models)]
    with subprocess.Popen(command, stdin=follower, stdout=follower, cwd=tmp_path, env=environment) as process:
        try:
            assert "Ctrl-D quits" in read_until_prompt(leader)
            for typed, printed in [
                ("/max_new_tokens 12", "max_new_tokens 12"),
                ("/heat 3", "/heat: must be one of: /max_new_tokens"),
                ("/top_k many", "/top_k: must be an integer, got 'many'"),
                ("/temperature -1", "/temperature: must be greater"),
                ("/seed 7", "seed 7"),
                ("Once", story[:12]),
            ]:
                os.write(leader, f"{typed}\n".encode())
                assert printed in read_until_prompt(leader)
            os.write(leader, b"\x04")
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
            os.close(follower)
            os.close(leader)
    assert (tmp_path / ".slm/history").read_text().splitlines()[-2:] == ["/seed 7", "Once"]


def test_chat_prompt_contains_the_turns_that_fit(models, capsys):
    generator, params = load(models), generation_params(seed=5, max_new_tokens=2)
    session, turns = Chat(generator), []
    for message in ("Write.", "Go on.", "Once more."):
        session(message, params)
        *notes, answer = capsys.readouterr().out.splitlines()
        turns = turns[len(notes) :]
        assert answer == generator.generate(render(turns, message), **params.model_dump()).rstrip("\n")
        turns.append(Turn(message, answer))
    # The context of 16 tokens is too short for all turns.
    assert len(turns) < 3
    session(" ", params)
    session("Write.", params)
    assert capsys.readouterr().out == f"{generator.generate(render([], 'Write.'), **params.model_dump())}\n"


def read_until_prompt(terminal: int) -> str:
    """Return what a program prints until it prompts for the next line."""
    output = b""
    while not output.endswith(b"\n> ") and select.select([terminal], [], [], 30)[0]:
        output += os.read(terminal, 4096)
    return output.decode(errors="replace").replace("\r\n", "\n")
