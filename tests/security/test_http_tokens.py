"""Bearer tokens over real HTTP and TLS."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import socket
import ssl

import pytest

from imgserve.cli import main
from imgserve.config import Settings
from imgserve.errors import ConfigError
from imgserve.gateway.connections import tls_context
from imgserve.gateway.tokens import Tokens
from tests.security.keyed import is_hung_up
from tests.support.broker_double import BrokerDouble
from tests.support.gateway_run import REQUEST, GatewayRun
from tests.support.tls import make_certificate
from tests.support.until import until


def token(state, *words: str) -> str:
    """Run `imgserve token`; return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["token", *words, "--state", str(state)]) == 0
    return printed.getvalue().strip()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A scripted broker."""
    with BrokerDouble(tmp_path_factory.mktemp("tokens")) as double:
        yield double


@pytest.fixture(scope="module")
def made(broker):
    """Tokens by their names."""
    return {
        "any": token(broker.folder, "new", "any"),
        "slow": token(broker.folder, "new", "slow", "--requests-per-s", "0.01", "--burst", "2"),
        "there": token(broker.folder, "new", "there", "--destination", "http://there/page"),
        "elsewhere": token(broker.folder, "new", "elsewhere", "--destination=http://cdn.there/"),
        "nowhere": token(broker.folder, "new", "nowhere", "--destination=https://there/page"),
    }


@pytest.fixture(scope="module")
def gateway(broker, made):
    """A gateway that asks for them; it finds the file in its state folder."""
    with GatewayRun(broker.path) as run:
        yield run


def bearer(value: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {value}"}


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer wrong", "Basic dTpw", "wrong", "Bearer \xe9", "Bearer a b"],
)
@pytest.mark.parametrize("route", ["POST /", "POST /jobs", "GET /jobs/x", "GET /metrics", "GET /x"])
def test_a_wrong_or_missing_token_is_401(gateway, route, header):
    """On every page but the probes, with the way to log in, and no job done."""
    method, path = route.split()
    answer = gateway.ask(method, path, REQUEST, **({"Authorization": header} if header else {}))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="imgserve"')
    assert ("invalid_token" in answer.headers["WWW-Authenticate"]) == bool(header)


def test_a_refused_request_submits_nothing(gateway, broker):
    """Whatever its body is."""
    before = broker.submits
    assert gateway.post(REQUEST).status == 401
    assert gateway.post(b"x" * 100_000).status == 401
    assert broker.submits == before


def test_a_right_token_is_served(gateway, made):
    """The scheme's name in any case, as RFC 9110 has it."""
    assert gateway.post(REQUEST, **bearer(made["any"])).status == 200
    assert gateway.post(REQUEST, Authorization=f"bearer {made['any']}").status == 200
    assert gateway.ask("GET", "/metrics", **bearer(made["any"])).status == 200


def test_a_token_with_one_letter_changed_is_refused(gateway, made):
    """Or cut short, or made longer."""
    right = made["any"]
    other = ("A" if right[0] != "A" else "B") + right[1:]
    for wrong in (other, right[:-1], right + "A", right.swapcase()):
        assert gateway.post(REQUEST, **bearer(wrong)).status == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_ask_for_no_token(gateway, path):
    """Orchestrators have none."""
    assert gateway.ask("GET", path).status != 401


def test_requests_over_a_tokens_rate_are_429(gateway, made):
    """With the time to wait; other tokens are not held up."""
    answers = [gateway.post(REQUEST, **bearer(made["slow"])) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert 90 <= int(answers[2].headers["Retry-After"]) <= 100
    assert gateway.post(REQUEST, **bearer(made["any"])).status == 200


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("there", {"dstURL": "http://there/done.png"}),
        ("elsewhere", {"msg": "request invalid", "code": 302}),
        ("nowhere", {"msg": "request invalid", "code": 302}),
    ],
)
def test_a_token_writes_to_its_destinations_only(gateway, made, name, reply):
    """Code 302 for all others."""
    assert gateway.post(REQUEST, **bearer(made[name])).json == reply


@pytest.mark.parametrize(
    "page",
    [
        "http://there/pages",
        "http://there/page/../other",
        "http://there/page/%2e%2e/other",
        "http://there/page/%252e%252e/other",
        "http://there/page/..;/other",
        "http://there.evil/page",
        "http://there@evil/page",
        "http://there:81/page",
        "ftp://there/page",
    ],
)
def test_no_spelling_leaves_a_tokens_destinations(gateway, made, page):
    """What looks like the permitted page and is another."""
    request = REQUEST | {"dstURL": f"{page}:a.png"}
    answer = gateway.post(request, **bearer(made["there"]))
    assert answer.json["code"] == 302


def test_a_revoked_token_is_refused_without_a_restart(gateway, broker):
    """And a new one is served; both within seconds."""
    fresh = token(broker.folder, "new", "fresh")
    until(lambda: gateway.post(REQUEST, **bearer(fresh)).status == 200)
    token(broker.folder, "revoke", "fresh")
    until(lambda: gateway.post(REQUEST, **bearer(fresh)).status == 401)


def test_a_broken_token_file_opens_nothing(tmp_path):
    """At the start it is refused, later the former tokens stay."""
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"a": {"sha256": hashlib.sha256(b"right").hexdigest()}}))
    tokens = Tokens(path)
    path.write_text("{")
    tokens._looked_s = float("-inf")
    assert tokens.find("Bearer right")
    assert not tokens.find("Bearer wrong")
    for text in ("{", "[]", '{"a": {}}', '{"a": {"sha256": "00"}}', '{"a": {"sha256": 1}}'):
        path.write_text(text)
        with pytest.raises(ConfigError):
            Tokens(path)
    path.unlink()
    with pytest.raises(ConfigError):
        Tokens(path)


def test_a_token_file_that_is_named_must_be_there(tmp_path):
    """Its loss does not open the service."""
    named = Settings(state=tmp_path, token_file=tmp_path / "gone.json")
    with pytest.raises(ConfigError):
        Tokens(named.tokens_path, required=True)


def test_the_file_holds_no_token(broker, made):
    """Hashes only, and it is for its owner alone."""
    path = broker.folder / "tokens.json"
    text = path.read_text()
    assert not any(value in text for value in made.values())
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(broker, made, certificate):
    """The same over TLS."""
    with GatewayRun(broker.path, tls_cert=certificate.server_file, http_idle_timeout_s=0.4) as run:
        yield run


def test_https_is_served_with_the_certificate(secure, made, certificate):
    """And says that it always will be."""
    context = ssl.create_default_context(cafile=certificate.ca_file)
    with (
        socket.create_connection(("127.0.0.1", secure.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
        head = f"GET /metrics HTTP/1.0\r\nAuthorization: Bearer {made['any']}\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(100_000)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Strict-Transport-Security: max-age=" in answer


@pytest.mark.parametrize("start", [b"", b"\x16\x03", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_who_speaks_no_tls_is_hung_up_on(secure, start):
    """Silence in the handshake, too."""
    with socket.create_connection(("127.0.0.1", secure.port), timeout=10) as connection:
        connection.sendall(start)
        assert is_hung_up(connection)


def test_old_tls_is_refused(secure):
    """TLS 1.1 and older are broken (RFC 8996)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with (
        socket.create_connection(("127.0.0.1", secure.port), timeout=10) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain)


def test_a_certificate_that_cannot_be_used_is_refused_at_the_start(tmp_path, certificate):
    """With the setting's name."""
    (tmp_path / "no.pem").write_text("no certificate")
    for cert, key in (
        (tmp_path / "no.pem", None),
        (tmp_path / "gone.pem", None),
        (certificate.ca_file, certificate.server_file),
        (None, certificate.server_file),
    ):
        with pytest.raises(ConfigError, match="tls_"):
            tls_context(cert, key)


@pytest.fixture
def unlocked(tmp_path):
    """A gateway that started without a token file."""
    with BrokerDouble(tmp_path) as double, GatewayRun(double.path) as run:
        assert run.post(REQUEST).status == 200
        yield run


def _locked(gateway) -> bool:
    statuses = {
        gateway.post(REQUEST, **headers).status for headers in ({}, {"Authorization": "Bearer no"})
    }
    return statuses == {401}


def test_first_token_locks_the_door(unlocked, tmp_path):
    """It counts at once, beside a service that started without any."""
    made = token(tmp_path, "new", "first")
    until(lambda: _locked(unlocked))
    assert unlocked.post(REQUEST, **bearer(made)).status == 200
    assert unlocked.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("content", ["{", "", "[]"])
def test_file_that_cannot_be_read_locks_it_too(unlocked, tmp_path, content):
    """Nobody gets in until it is mended; then its tokens do."""
    path = tmp_path / "tokens.json"
    path.write_text(content)
    until(lambda: _locked(unlocked))
    path.unlink()
    made = token(tmp_path, "new", "first")
    until(lambda: unlocked.post(REQUEST, **bearer(made)).status == 200)
    assert _locked(unlocked)


def test_link_that_leads_nowhere_locks_it_too(unlocked, tmp_path):
    """Somebody meant tokens to be asked for."""
    (tmp_path / "tokens.json").symlink_to(tmp_path / "nowhere.json")
    until(lambda: _locked(unlocked))


def test_door_stays_locked_when_the_file_is_gone(unlocked, tmp_path):
    """Its loss opens nothing."""
    made = token(tmp_path, "new", "first")
    until(lambda: _locked(unlocked))
    (tmp_path / "tokens.json").unlink()
    for _ in range(20):
        assert _locked(unlocked)
    assert unlocked.post(REQUEST, **bearer(made)).status == 200


def test_link_that_leads_nowhere_ends_a_start(tmp_path):
    """Silence would leave the door open."""
    (tmp_path / "tokens.json").symlink_to(tmp_path / "nowhere.json")
    with pytest.raises(ConfigError):
        Tokens(tmp_path / "tokens.json", required=False)


def test_token_confines_sources(broker, gateway):
    """A pattern for what may be fetched, as for where results may go."""
    headers = bearer(token(broker.folder, "new", "fetches", "--source", "http://there/shop/"))
    until(lambda: gateway.post({}, **headers).status != 401)
    for url, code in (
        ("http://there/shop/a.png", None),
        ("http://there/a.png", 301),
        ("http://there/shop/../a.png", 301),
        ("file:///etc/a.png", 301),
    ):
        answer = gateway.post(REQUEST | {"srcURL": url}, **headers)
        assert answer.json.get("code") == code, url
