"""A trained model, used from Python and in the terminal."""

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
from slm.inference import Spelling
from slm.model.gpt import new_gpt, save_model
from slm.sft import chat
from slm.sft.conversations import Turn
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
    """A folder with a model that has not learnt anything, as `dvc repro` leaves one."""
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


def test_three_lines_write_the_text_that_the_token_ids_spell(models, tokenizer):
    writer = load(models)
    text = writer.generate("Once", seed=3, max_new_tokens=30)
    params = sample_params(seed=3, max_new_tokens=30, temperature=DEFAULTS["temperature"], num_samples=1)
    ids = generate(writer.model, [encode(tokenizer, "Once")], params, tokenizer.token_to_id(END_OF_TEXT))[0][
        0
    ]
    assert text == tokenizer.decode(ids)
    assert text == writer.generate("Once", seed=3, max_new_tokens=30)
    assert len({writer.generate("Once", max_new_tokens=30) for _ in range(3)}) == 3  # without a seed


def test_a_stream_gives_the_text_in_pieces(models):
    writer = load(models)
    pieces = list(writer.stream("Once", seed=4, max_new_tokens=20))
    assert len(pieces) > 5
    assert "".join(pieces) == writer.generate("Once", seed=4, max_new_tokens=20)


def test_a_wrong_option_is_named_and_so_is_a_folder_without_a_model(models, tmp_path):
    with pytest.raises(UserError, match=r"options\.temperature: must be greater"):
        load(models).generate("x", temperature=-1)
    with pytest.raises(UserError, match=r"options\.heat: unknown key; must be one of max_new_tokens"):
        load(models).generate("x", heat=1)
    with pytest.raises(UserError, match=r"tokenizer\.json: no such file; `dvc repro` makes it"):
        load(tmp_path)


@given(text=st.text())
def test_spelling_gives_any_text_back(tokenizer, text):
    spelling = Spelling(tokenizer)
    pieces = [spelling.add(token) for token in encode(tokenizer, text)]
    assert "".join(pieces) + spelling.rest() == text


def test_a_character_waits_for_its_last_byte_and_one_that_never_comes_is_shown_as_such(tokenizer):
    *first, last = encode(tokenizer, "💡")
    spelling = Spelling(tokenizer)
    assert [spelling.add(token) for token in first] == [""] * len(first)
    assert spelling.rest() == "\N{REPLACEMENT CHARACTER}"
    assert spelling.add(last) == "💡"
    assert spelling.rest() == ""


def test_the_command_prints_the_prompt_and_what_follows_and_a_seed_to_repeat_it(models):
    result = run("Once", "--max-new-tokens", "20", models=models)
    seed = int(result.stderr.removeprefix("(seed ").removesuffix(")\n"))
    assert result.stdout == f"Once{load(models).generate('Once', seed=seed, max_new_tokens=20)}\n"


def test_the_prompt_may_come_through_a_pipe(models):
    result = run("--seed", "1", "--max-new-tokens", "20", models=models, input="Zoë “found”\n")
    prompt = "Zoë “found”"
    assert result.stdout == f"{prompt}{load(models).generate(prompt, seed=1, max_new_tokens=20)}\n"
    assert result.stderr == ""  # no seed is told that was given


@pytest.mark.parametrize(
    ("arguments", "given", "line"),
    [
        (
            ["--temperature", "-3"],
            b"x",
            "slm: options.temperature: must be greater than or equal to 0, got -3.0",
        ),
        ([], b"a\xff", "prompt: not UTF-8 at byte 1"),
        ([b"a\xff"], b"", r"prompt: must be valid Unicode, got a lone surrogate in 'a\udcff'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments, given, line):
    result = run(*arguments, input=given, text=False)
    assert (result.returncode, result.stdout, result.stderr.decode()) == (1, b"", f"error: {line}\n")


def test_whoever_reads_may_stop_reading(models):
    command = [*COMMAND, "Once", "--model", str(models), "--seed", "1", "--max-new-tokens", "5000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.read(4) == b"Once"
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_conversation_takes_prompts_and_options_until_its_end_and_remembers_them(models, tmp_path):
    story = f"Once\033[0m{load(models).generate('Once', seed=7, max_new_tokens=12)}"
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    command = [*COMMAND, "--model", str(models)]
    with subprocess.Popen(command, stdin=follower, stdout=follower, cwd=tmp_path, env=environment) as process:
        try:
            assert "Ctrl-D quits" in hear(leader)
            for typed, answer in [
                ("/max_new_tokens 12", "max_new_tokens 12"),
                ("/heat 3", "/heat: must be one of: /max_new_tokens"),
                ("/top_k many", "/top_k: must be an integer, got 'many'"),
                ("/temperature -1", "options.temperature: must be greater"),
                ("/seed 7", "seed 7"),
                ("Once", story[:12]),
            ]:
                os.write(leader, f"{typed}\n".encode())
                assert answer in hear(leader)
            os.write(leader, b"\x04")
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
            os.close(follower)
            os.close(leader)
    assert (tmp_path / ".slm/history").read_text().splitlines()[-2:] == ["/seed 7", "Once"]


def test_a_talk_gives_the_model_what_was_said_before_as_far_as_it_sees(models, capsys):
    writer, params = load(models), generation_params(seed=5, max_new_tokens=2)
    talk, said = Chat(writer), []
    for request in ("Write.", "Go on.", "Once more."):
        talk(request, params)
        *notes, answer = capsys.readouterr().out.splitlines()
        said = said[len(notes) :]
        assert answer == writer.generate(chat.render(said, request), **params.model_dump()).rstrip("\n")
        said.append(Turn(request, answer))
    assert len(said) < 3  # a block of 16 tokens does not hold them all
    talk(" ", params)
    talk("Write.", params)
    assert capsys.readouterr().out == f"{writer.generate(chat.render([], 'Write.'), **params.model_dump())}\n"


def hear(terminal: int) -> str:
    """What a program prints until it asks for the next line."""
    heard = b""
    while not heard.endswith(b"\n> ") and select.select([terminal], [], [], 30)[0]:
        heard += os.read(terminal, 4096)
    return heard.decode(errors="replace").replace("\r\n", "\n")
