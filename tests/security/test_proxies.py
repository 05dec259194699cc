"""Proxies: both spellings are one setting, and SuperNode and doctor read it alike."""

import httpx
import pytest
from httpx._utils import URLPattern, get_environment_proxies

from confide.security.proxies import proxy_of, settled

ADDRESS = "fl.bank.example:8443"
PROXY = "http://proxy:3128"
Variables = dict[str, str]

ROUTES: list[tuple[Variables, str, str | None]] = [
    ({}, ADDRESS, None),
    ({"https_proxy": PROXY}, ADDRESS, PROXY),
    ({"HTTPS_PROXY": PROXY}, ADDRESS, PROXY),
    ({"HTTPS_PROXY": "proxy:3128"}, ADDRESS, PROXY),
    ({"all_proxy": PROXY}, ADDRESS, PROXY),
    ({"ALL_PROXY": "http://other:1", "https_proxy": PROXY}, ADDRESS, PROXY),
    ({"http_proxy": PROXY}, ADDRESS, None),
    ({"HTTPS_PROXY": "http://other:1", "https_proxy": PROXY}, ADDRESS, PROXY),
    ({"HTTPS_PROXY": PROXY, "https_proxy": ""}, ADDRESS, None),
    *(
        ({"https_proxy": PROXY, name: entry}, address, route)
        for name in ("no_proxy", "NO_PROXY")
        for entry, address, route in [
            ("fl.bank.example", ADDRESS, None),
            ("FL.Bank.Example", ADDRESS, None),
            ("bank.example", ADDRESS, None),
            (".bank.example", ADDRESS, None),
            ("*.bank.example", ADDRESS, None),
            ("*", ADDRESS, None),
            ("a, fl.bank.example ,b", ADDRESS, None),
            ("fl.bank.example:8443", ADDRESS, None),
            ("fl.bank.example:443", ADDRESS, PROXY),
            ("other.example", ADDRESS, PROXY),
            ("ank.example", ADDRESS, PROXY),
            ("10.0.0.0/8", "10.1.2.3:8443", None),
            ("10.0.0.0/8", "11.1.2.3:8443", PROXY),
            ("10.1.2.3", "10.1.2.3:8443", None),
            ("10.0.0.0/8", ADDRESS, PROXY),
            ("fd00::/8", "[fd00::7]:8443", None),
            ("[fd00::7]", "[fd00::7]:8443", None),
            ("[fd00::7]:8443", "[fd00::7]:8443", None),
        ]
    ),
    ({"https_proxy": PROXY, "NO_PROXY": "a.example", "no_proxy": "bank.example"}, ADDRESS, None),
    ({"https_proxy": PROXY, "NO_PROXY": "bank.example", "no_proxy": "a.example"}, ADDRESS, None),
    ({"https_proxy": PROXY}, "127.0.0.1:8443", None),
    ({"https_proxy": PROXY}, "localhost:8443", None),
]


@pytest.mark.parametrize(("variables", "address", "route"), ROUTES)
def test_route_to_a_coordinator(variables: Variables, address: str, route: str | None) -> None:
    assert proxy_of(address, variables) == route


@pytest.mark.parametrize(("variables", "address", "route"), ROUTES)
def test_program_of_flower_takes_the_same_route(
    variables: Variables, address: str, route: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPX, which Flower connects by, reads what was settled."""
    for name in ("http", "https", "all", "no"):
        for spelling in (f"{name}_proxy", f"{name.upper()}_PROXY"):
            monkeypatch.delenv(spelling, raising=False)
    for name, value in settled(variables, address).items():
        monkeypatch.setenv(name, value)
    patterns = {URLPattern(key): proxy for key, proxy in get_environment_proxies().items()}
    url = httpx.URL(f"https://{address}/v1/fleet/pull-messages")
    chosen = next((patterns[one] for one in sorted(patterns) if one.matches(url)), None)
    assert chosen == route


def test_both_spellings_say_the_same() -> None:
    made = settled({"https_proxy": PROXY, "NO_PROXY": "a", "no_proxy": "b"})
    assert made["HTTPS_PROXY"] == made["https_proxy"] == PROXY
    assert {made[name] for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy", "NO_GRPC_PROXY")} == {
        "b,a,127.0.0.1,localhost"
    }


def test_spelling_that_is_empty_switches_the_proxy_off() -> None:
    made = settled({"HTTPS_PROXY": PROXY, "https_proxy": ""}, ADDRESS)
    assert made["HTTPS_PROXY"] == made["https_proxy"] == ""
