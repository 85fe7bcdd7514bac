"""Settings: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgserve.config import SAFETY, Settings, load_settings
from imgserve.errors import ConfigError
from imgserve.request import ANY_RESULT, RESULT_LIMIT_SIDE_PX


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    """No setting of the machine that runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"IMGSERVE_{name.upper()}", raising=False)


def toml(folder: Path, text: str) -> Path:
    """A TOML file."""
    file = folder / "imgserve.toml"
    file.write_text(text)
    return file


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path, monkeypatch):
    """In that order."""
    file = toml(tmp_path, "port = 1\nlease_s = 11\nbeat_s = 3\n")
    monkeypatch.setenv("IMGSERVE_PORT", "2")
    monkeypatch.setenv("IMGSERVE_LEASE_S", "12")
    settings = load_settings({"port": 3}, file)
    assert (settings.port, settings.lease_s, settings.beat_s) == (3, 12, 3)
    assert settings.queue_limit == 1_000_000


def test_an_empty_variable_is_no_setting(monkeypatch):
    """As if it were not there."""
    monkeypatch.setenv("IMGSERVE_PORT", "")
    assert load_settings({}).port == 8602


@pytest.mark.parametrize("name", sorted(SAFETY))
def test_an_empty_variable_of_safety_is_an_error(monkeypatch, name):
    """Somebody relies on what it was meant to say."""
    monkeypatch.setenv(f"IMGSERVE_{name.upper()}", " ")
    with pytest.raises(ConfigError, match="without a value"):
        load_settings({})


@pytest.mark.parametrize("name", ["ALLOW_HOSTS", "REQUIRE_SANDBOXES", "TOKENS_FILE", "token_files"])
def test_a_misspelt_variable_is_an_error(monkeypatch, name):
    """It names the setting that was meant."""
    monkeypatch.setenv(f"IMGSERVE_{name}", "x")
    with pytest.raises(ConfigError, match="did you mean IMGSERVE_"):
        load_settings({})


def test_variables_of_kubernetes_are_no_settings(monkeypatch):
    """It sets some for a service named imgserve, and for one named imgserve-broker."""
    for name, value in (
        ("SERVICE_HOST", "10.0.0.1"), ("SERVICE_PORT_HTTP", "80"), ("PORT", "tcp://10.0.0.1:80"),
        ("PORT_80_TCP", "tcp://10.0.0.1:80"), ("PORT_80_TCP_ADDR", "10.0.0.1"),
        ("BROKER_PORT", "tcp://10.0.0.1:9"), ("BROKER_SERVICE_HOST", "10.0.0.1"),
    ):  # fmt: skip
        monkeypatch.setenv(f"IMGSERVE_{name}", value)
    assert load_settings({}).port == 8602
    assert load_settings({}).broker_port == Settings().broker_port
    monkeypatch.setenv("IMGSERVE_PORT", "9")
    assert load_settings({}).port == 9


@pytest.mark.parametrize(
    "name", ["allow_host", "deny_host", "allow_network", "file_root", "host_name"]
)
@pytest.mark.parametrize("value", ["", " , ", ["", ""]])
def test_an_empty_list_is_an_error(name, value):
    """An empty list of hosts would allow every host."""
    with pytest.raises(ConfigError, match=f"{name} = .*it is empty"):
        load_settings({name: value})


def test_lists_are_split_at_commas(tmp_path, monkeypatch):
    """In flags and in the environment; the file has lists of its own."""
    monkeypatch.setenv("IMGSERVE_FILE_ROOT", "/a, /b")
    assert load_settings({}).file_root == (Path("/a"), Path("/b"))
    assert load_settings({"file_root": ["/c,/d", "/e"]}).file_root[-1] == Path("/e")
    file = toml(tmp_path, 'allow_network = ["10.0.0.0/8", "fd00::1"]')
    assert load_settings({}, file).allow_network == ("10.0.0.0/8", "fd00::1/128")


WRONG = [
    ("port", -1, "greater than or equal to 0"),
    ("port", 65_536, "less than or equal to 65535"),
    ("port", "http", "integer"),
    ("lease_s", 0, "greater than 0"),
    ("lease_s", "soon", "number"),
    ("queue_limit", 0, "greater than or equal to 1"),
    ("retry_limit", -1, "greater than or equal to 0"),
    ("processes", 0, "greater than or equal to 1"),
    ("processes", "many", "'auto'"),
    ("slots", 10_001, "less than or equal to 10000"),
    ("file_root", "pictures", "not an absolute path"),
    ("allow_network", "somewhere", "is no network, such as 10.0.0.0/8"),
    ("jpeg_quality", 101, "less than or equal to 100"),
    ("renderer", "inkscape", "'resvg' or 'cairosvg'"),
    ("insecure", "perhaps", "boolean"),
    ("result_limit_pixels", 0, "greater than or equal to 1"),
    ("result_limit_side_px", RESULT_LIMIT_SIDE_PX + 1, f"equal to {RESULT_LIMIT_SIDE_PX}"),
    ("result_limit_pixels", ANY_RESULT.pixels + 1, f"equal to {ANY_RESULT.pixels}"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_is_refused_with_its_name_itself_and_what_is_allowed(name, value, allowed):
    """One sentence that can be acted on."""
    with pytest.raises(ConfigError) as caught:
        load_settings({name: value})
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} = ")
    assert str(value) in sentence
    assert allowed in sentence


def test_limits_of_results_go_up_to_what_any_service_can_take():
    """50 megapixels and 20,000 a side are but the default."""
    default = load_settings({})
    assert (default.result_limit_pixels, default.result_limit_side_px) == (50_000_000, 20_000)
    side, pixels = ANY_RESULT.side_px, ANY_RESULT.pixels
    raised = load_settings({"result_limit_pixels": pixels, "result_limit_side_px": side})
    assert (raised.result_limit_pixels, raised.result_limit_side_px) == (pixels, side)


def test_every_wrong_setting_is_named_at_once():
    """Not one a run."""
    with pytest.raises(ConfigError) as caught:
        load_settings({"port": -1, "lease_s": 0})
    assert str(caught.value).count(";") == 1


def test_a_setting_that_is_none_is_refused(tmp_path):
    """A typing error must not go unnoticed."""
    with pytest.raises(ConfigError, match="leese_s: there is no such setting"):
        load_settings({}, toml(tmp_path, "leese_s = 1"))


def test_a_file_that_is_not_there_or_no_toml_is_refused(tmp_path):
    """With its name."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load_settings({}, tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"imgserve\.toml"):
        load_settings({}, toml(tmp_path, "port = = 1"))


def test_the_state_folder_holds_everything(tmp_path):
    """--state DIR puts log, pid file and connection file there."""
    settings = load_settings({"state": tmp_path})
    assert settings.state_dir == tmp_path
    assert {settings.log_file.parent, settings.pid_file.parent} == {tmp_path}
    assert settings.connection_file == tmp_path / "connection.json"


def test_every_setting_is_described():
    """`--help` shows it."""
    assert all(field.description for field in Settings.model_fields.values())
