"""The way to the API, with resolvers, servers and proxies of the tests' own."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from email.utils import formatdate

import pytest

from cambfs.account import open_client
from cambfs.demo.profile import Profile
from cambfs.doctor import network
from cambfs.doctor.network import Observed
from cambfs.doctor.report import Finding, State
from cambfs.errors import ConfigError
from cambfs.settings.config import ApiKey, Settings
from cambfs.wire import connection
from cambfs.wire.connection import Made
from tests.api.faults import Fault
from tests.api.server import Server as Demo
from tests.wire.raw_server import CERTIFICATE, KEY, Server, send, sized
from tests.wire.test_proxies import Proxy, tunnel


@pytest.fixture(autouse=True)
def _no_proxy_of_the_testers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def settings(base_url: str, key: str | None = KEY) -> Settings:
    return Settings(base_url=base_url, key=None if key is None else ApiKey(key, "the test"))


def by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    found = {finding.check: finding for finding in findings}
    for finding in found.values():
        assert bool(finding.remedy) == (finding.state is not State.OK), "a remedy, unless all is well"
        assert KEY not in finding.found
    return found


def resolver(*addresses: str) -> object:
    def resolve(*_: object, **__: object) -> object:
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 1)) for address in addresses]

    return resolve


def test_a_name_that_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver("192.0.2.1", "192.0.2.2", "192.0.2.1"))
    found: list[tuple[str, int]] = []
    (finding,) = network.resolve("api.test", 443, "api.test", found)
    assert finding.state is State.OK
    assert finding.found.startswith("api.test is 192.0.2.1, 192.0.2.2 (")
    assert found == [("192.0.2.1", 443), ("192.0.2.2", 443)]


def test_a_name_that_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver())
    findings = [f for check in network.checks(settings("https://api.test/apis")) for f in check.look()]
    found = by_check(findings)
    assert list(found) == ["name"], "there is nothing else to ask"
    assert found["name"].state is State.BROKEN
    assert "Name or service not known" in found["name"].found


def test_a_name_that_no_host_can_have() -> None:
    (finding,) = network.resolve(f"{'x' * 70}.test", 443, "it", [])
    assert finding.state is State.BROKEN
    assert "no host can have such a name" in finding.found


def test_addresses_that_answer_and_that_do_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        good, bad = listener.getsockname(), closed.getsockname()
        states = [finding.state for finding in network.connect([good, bad])]
        assert states == [State.OK, State.WARNING], "a mount takes the one that answers"
        assert [finding.state for finding in network.connect([bad, bad])] == [State.WARNING, State.BROKEN]
        (only,) = network.connect([bad])
        assert only.found == f"127.0.0.1 port {bad[1]} cannot be reached: Connection refused"


def test_an_address_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_address: object, timeout_s: float) -> socket.socket:
        assert 0 < timeout_s < 5
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    (only,) = network.connect([("192.0.2.1", 443)])
    assert (only.state, only.found) == (State.BROKEN, "192.0.2.1 port 443 cannot be reached: no response")


def test_behind_a_proxy_the_proxy_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.test:3128")
    monkeypatch.setattr(socket, "getaddrinfo", resolver("192.0.2.7"))
    name = next(network.checks(settings("https://api.test/apis")))
    (finding,) = name.look()
    assert finding.found.startswith("the proxy proxy.test is 192.0.2.7")


@pytest.mark.parametrize("url", ["nonsense", "http://api.test/apis"])
def test_a_base_url_that_cannot_be_asked_has_no_network(url: str) -> None:
    assert list(network.checks(settings(url))) == []


def test_without_a_key_nothing_is_asked() -> None:
    names = [check.name for check in network.checks(settings("https://api.test/apis", key=None))]
    assert names == ["name", "address"]


# The request


@pytest.fixture
def api() -> Iterator[Demo]:
    with Demo({}, key=KEY) as server:
        yield server


def test_an_api_that_takes_the_key(api: Demo) -> None:
    found = by_check(network.request(settings(api.base_url)))
    assert {check: finding.state for check, finding in found.items()} == {"clock": State.OK, "key accepted": State.OK}
    assert len(api.requests) == 1


def test_a_key_that_is_refused(api: Demo) -> None:
    finding = by_check(network.request(settings(api.base_url, "wrong-key")))["key accepted"]
    assert (finding.state, finding.remedy) == (
        State.BROKEN,
        "check that CAMB_API_KEY or the key file holds a valid key",
    )
    assert "401: Invalid API key" in finding.found


@pytest.mark.parametrize("path", ["", "/v2", "/apis/apis"])
def test_a_path_where_there_is_no_api(api: Demo, path: str) -> None:
    finding = by_check(network.request(settings(api.base_url.removesuffix("/apis") + path)))["API"]
    assert finding.state is State.BROKEN
    assert "no such API at this path" in finding.found
    assert "CAMB_BASE_URL" in finding.remedy


@pytest.mark.parametrize("status", [400, 404, 422])
def test_every_way_to_say_that_0_is_no_run(api: Demo, status: int) -> None:
    api.profile = Profile(unknown_status=status)  # type: ignore[arg-type]
    assert by_check(network.request(settings(api.base_url)))["key accepted"].state is State.OK


@pytest.mark.parametrize("body", [b"", b'{"detail": "Not found."}', b"{}"])
@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_mount_takes_for_the_api_is_the_api(api: Demo, body: bytes, is_there: bool) -> None:
    """An API may say as little of a run as of a path that it does not have; bulk requests then tell the two apart."""
    api.profile = Profile(bulk="objects" if is_there else "absent")
    api.fail(Fault("status", target="sign", run_id=0, status=404, body=body, times=None))
    (finding,) = [one for one in network.request(settings(api.base_url)) if one.check != "clock"]
    assert finding.state is (State.OK if is_there else State.BROKEN)
    with open_client(settings(api.base_url)) as client, ExitStack() as mounting:
        if not is_there:
            mounting.enter_context(pytest.raises(ConfigError, match=r"no CAMB\.AI API"))
        client.check_key()


def test_an_api_that_has_trouble(api: Demo) -> None:
    api.fail(Fault("status", target="sign", status=503, body=b'{"detail": "down"}'))
    finding = by_check(network.request(settings(api.base_url)))["API"]
    assert (finding.state, finding.remedy) == (State.WARNING, "try again later")
    assert "503: down" in finding.found


def raw(*head: bytes, body: bytes = b"{}", times: int = 1) -> Server:
    server = Server()
    server.scripts += [send(b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body]))] * times
    return server


def test_a_page_in_place_of_the_api() -> None:
    page = b"<title>Sign in to the hotel</title>"
    with raw(b"HTTP/1.1 200 OK", b"Connection: close", body=page, times=3) as server:
        finding = by_check(network.request(settings(server.url)))["API"]
    assert finding.state is State.BROKEN
    assert "Sign in to the hotel" in finding.found


def test_a_redirect_to_another_host() -> None:
    with raw(b"HTTP/1.1 200 OK") as other, Server() as server:
        server.scripts.append(
            send(b"HTTP/1.1 302 Found\r\nLocation: %s/x\r\nContent-Length: 0\r\n\r\n" % other.url.encode())
        )
        finding = by_check(network.request(settings(server.url)))["API"]
    assert finding.state is State.BROKEN
    assert "where the key does not go" in finding.found


@pytest.mark.parametrize(
    ("offset_s", "state", "said"),
    [
        (0, State.OK, "right within seconds"),
        (-20, State.OK, "20 s ahead of the API's"),
        (3600, State.WARNING, "3600 s behind the API's"),
        (-3600, State.WARNING, "3600 s ahead of the API's"),
        (None, State.OK, "not compared"),
    ],
)
def test_clocks(offset_s: int | None, state: State, said: str) -> None:
    now_s = int(time.time())
    head = [] if offset_s is None else [b"Date: " + formatdate(now_s + offset_s, usegmt=True).encode()]
    with raw(b"HTTP/1.1 200 OK", *head) as server:
        prober = network.Prober(settings(server.url), 20)
        finding = network.clock(prober.ask("it", "/").response, now_s)
        prober.close()
    assert finding.state is state
    assert said in finding.found


def test_a_server_that_refuses_connections() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/apis"
        finding = by_check(network.request(settings(url)))["request"]
    assert finding.state is State.BROKEN
    assert "refuses the connection" in finding.found


def test_each_request_has_a_connection_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its steps would be those of an earlier one."""
    monkeypatch.setattr(connection, "REST_S", 0.0)
    with Server() as server:
        server.scripts += [send(sized(b"{}"))] * 2
        with closing(network.Prober(settings(server.url), 20)) as prober:
            for _ in range(2):
                response = prober.ask("it", "/").response
                assert prober.exchange.error_content(response, "it", 10) == b"{}"
        assert server.connections == 2


# TLS


@pytest.fixture
def tls_server() -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with Server(tls=context) as made:
        made.scripts.append(send(sized(b'{"detail": "Invalid run id"}')))
        yield made


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))


@pytest.mark.usefixtures("trusted")
def test_tls_that_is_right(tls_server: Server) -> None:
    found = by_check(network.request(settings(tls_server.url)))
    assert found["TLS"].state is State.OK
    assert found["TLS"].found.startswith("TLS 1.3; certificate by ")
    assert " until " in found["TLS"].found
    assert found["key accepted"].state is State.OK


@pytest.mark.usefixtures("trusted")
def test_the_steps_of_a_request_are_parts_of_its_time(tls_server: Server) -> None:
    with closing(network.Prober(settings(tls_server.url), 20)) as prober:
        begun_at = time.monotonic()
        observed = prober.ask("it", "/")
        all_s = time.monotonic() - begun_at
    parts = (observed.connect_s, observed.secure_s, observed.wait_s)
    assert all(part > 0 for part in parts)
    assert sum(parts) <= all_s


@pytest.mark.usefixtures("trusted")
def test_tls_through_a_proxy(tls_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from cambfs.hosts.surroundings import Proxies

    port = int(tls_server.url.rpartition(":")[2])
    with Proxy(port, tunnel(b"HTTP/1.1 200 Connection established\r\n\r\n")) as proxy:
        monkeypatch.setattr(Proxies, "towards", lambda *_: {"https": f"http://{proxy.address}"})
        found = by_check(network.request(settings(tls_server.url)))
        assert proxy.connections == 1
    assert found["TLS"].state is State.OK


def test_a_certificate_that_is_not_trusted(tls_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    finding = by_check(network.request(settings(tls_server.url)))["request"]
    assert finding.state is State.BROKEN
    assert "certificate that is not accepted: self-signed certificate" in finding.found
    assert "REQUESTS_CA_BUNDLE" in finding.remedy


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("until", "state"), [("Jan  9 00:00:00 2026 GMT", State.OK), ("Jan  3 00:00:00 2026 GMT", State.WARNING)]
)
def test_a_certificate_that_runs_out_soon(tls_server: Server, until: str, state: State) -> None:
    prober = network.Prober(settings(tls_server.url), 20)
    response = prober.ask("it", "/").response
    prober.close()
    issuer = ((("organizationName", "Test CA"),), (("commonName", "R1"),), (("countryName", "XX"),))
    response.made = Made(0.0, 0.0, "TLSv1.3", {"notAfter": until, "issuer": issuer})
    finding = network.tls(Observed(response, 0.0, 0.0, 0.0), 1767225600.0)  # the first of January 2026
    assert finding.state is state
    assert f"by Test CA, R1 until {until}" in finding.found
