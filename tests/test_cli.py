"""The command line's grammar: help, spellings, slips."""

from __future__ import annotations

import subprocess
import sys

import pytest

import imgserve
from imgserve.cli import COMMANDS, main
from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.flags import flag, settings_from, to_flags
from imgserve.commands.parser import parse, two_dashes
from imgserve.config import Settings
from tests.support.command_line import environment


def _settings(*words):
    return settings_from(parse(COMMANDS["start"], words))


@pytest.mark.parametrize("dashes", ["-", "--"])
def test_long_options_take_one_dash_or_two(dashes):
    """-host and --host are the same, with = or with a space."""
    settings = _settings(f"{dashes}host", "127.0.0.1", f"{dashes}port=80")
    assert (settings.host, settings.port) == ("127.0.0.1", 80)


@pytest.mark.parametrize("spelling", ["-KILL", "--KILL", "-kill", "--kill"])
def test_kill_has_every_spelling(spelling):
    """-KILL is as it always was; lower case and two dashes will do."""
    assert parse(COMMANDS["stop"], [spelling]).kill


def test_values_and_operands_keep_their_dashes():
    """Only words that look like options change: not -, not numbers, nothing after --."""
    words = ["-", "-5", "-h", "--", "-file"]
    assert two_dashes(words) == words


def test_options_are_not_abbreviated(capsys):
    """--por is not --port: tomorrow's option could make it another one."""
    assert main(["start", "--por", "1"]) == ExitCode.USAGE
    assert "no option --por; did you mean --port?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("star", "there is no command 'star'; did you mean start?"),
        ("xyzzy", "there is no command 'xyzzy'; `imgserve help` lists them"),
        ("start -hots x", "imgserve start has no option --hots; did you mean --host?"),
        ("status now", "imgserve status: 'now' is one argument too many"),
        ("start --port", "imgserve start: argument --port: expected one argument"),
        ("dead show", "imgserve dead show needs an ID; `imgserve dead list` prints them"),
        ("submit --window=0 -", "--window must be at least 1"),
    ],
)
def test_a_slip_gets_one_sentence(words, sentence, capsys):
    """A wrong command or flag is answered with what is wrong and what was probably meant."""
    assert main(words.split()) == ExitCode.USAGE == 64
    said = capsys.readouterr().err
    assert said.startswith(f"imgserve: {sentence}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"], ["-help"]])
def test_help_lists_every_command(words, capsys):
    """Every command has a line in the overview, and there is a way to begin."""
    assert main(words) == 0
    text = capsys.readouterr().out
    for command in COMMANDS.values():
        assert f"  {command.name} " in text
        assert command.summary in text
    assert "start here:" in text


def test_no_command_is_a_usage_error(capsys):
    """Without a command the overview goes to stderr."""
    assert main([]) == ExitCode.USAGE
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name, capsys):
    """`help COMMAND` and `COMMAND --help` print the same, in either spelling."""
    texts = set()
    for words in (["help", name], [name, "--help"], [name, "-help"], [name, "-h"]):
        assert main(words) == 0
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1
    assert f"usage: imgserve {name}" in texts.pop()


def test_start_has_a_flag_for_every_setting(capsys):
    """Each setting's flag is in start's help, with its description's first words."""
    main(["start", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert flag(name) in text
        assert (field.description or "").split(";")[0][:40] in text


def test_version(capsys):
    """`version` prints the version."""
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"imgserve {imgserve.__version__} ")


def test_settings_survive_the_way_to_a_part(tmp_path, monkeypatch):
    """What came from flags, environment or file reaches a part as flags, unchanged."""
    monkeypatch.setenv("IMGSERVE_LEASE_S", "9")
    monkeypatch.setenv("IMGSERVE_JPEG_QUALITY", "70")
    toml = tmp_path / "imgserve.toml"
    toml.write_text('queue_limit = 7\nallow_network = ["10.0.0.0/8", "fd00::/8"]\n')
    settings = _settings(
        f"--config={toml}",
        "--jpeg-quality=85",
        "--no-verify-tls",
        "--file-root=/a",
        "--file-root=/b",
    )
    monkeypatch.setenv("IMGSERVE_LEASE_S", "1")  # a part's environment does not matter
    assert _settings(*to_flags(settings)).model_dump() == settings.model_dump()
    assert (settings.lease_s, settings.jpeg_quality, settings.queue_limit) == (9, 85, 7)
    assert to_flags(settings, port=5)[-1] == "--port=5"


def test_relative_paths_are_made_absolute(tmp_path, monkeypatch):
    """The daemon works in /, so --state x means x where the command was given."""
    monkeypatch.chdir(tmp_path)
    assert _settings("--state", "x").state == tmp_path / "x"


def test_a_reader_that_goes_away_is_no_crash():
    """`imgserve … | head` ends with a named exit code and without a traceback."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "imgserve", "help"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(20) == ExitCode.OUTPUT_CLOSED
