"""What Flower's processes say when they end, and what is made of it."""

import re

import pytest

from confide.flower.explain import explain

START = "INFO :      Starting Flower SuperNode\n"
TLS = "Exit Code: 305\nFailed to initialize the connection.\n[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
VERSION = "Exit Code: 606\nRuntime version compatibility check failed.\nexpected flwr 1.41, got '1.40.0'\n"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (f"{TLS}certificate has expired (_ssl.c:1006)", "has expired.*provision"),
        (f"{TLS}certificate is not yet valid (_ssl.c:1006)", "not valid yet.*NTP"),
        (f"{TLS}unable to get local issuer certificate (_ssl.c:1006)", "not signed by ca.crt.*telephone"),
        (f"{TLS}IP address mismatch, certificate is not valid for '10.0.0.1'. (_ssl.c:1006)", "not for '10.0.0.1'.*address"),
        (f"{TLS}Hostname mismatch, certificate is not valid for 'fed.example'. (_ssl.c:1)", "not for 'fed.example'.*address"),
        ("Exit Code: 305\n[code: 2004] Failed to activate SuperNode.", "not registered.*less than a minute ago.*60 s"),
        (VERSION, "release of Flower.*expected flwr 1.41, got '1.40.0'.*same minor"),
        ("[Errno 98] error while attempting to bind: address already in use", "runtime_port"),
        ("Exit Code: 302\nUnable to parse the private key file.", "node.key.*OpenSSH"),
        ("ERROR :     Path argument `--root-certificates` does not point to a file.", "ca.crt is not there"),
        ("INFO :      SuperNode terminated gracefully.", "401.*clock"),
    ],
)
def test_every_end_that_is_known_gets_a_sentence_with_its_mend(told: str, words: str) -> None:
    said = explain(START + told, 1)
    assert said is not None
    assert re.search(words, said), said
    assert said.endswith("`confide doctor` says more.")


def test_only_the_last_start_counts() -> None:
    assert explain(f"{START}[code: 2004] Failed\n{START}INFO: all is well", 1) is None


def test_a_node_that_runs_waits_until_it_is_connected() -> None:
    waits = f"{START}WARNING :   Connection attempt failed, retrying in 0.42 seconds\n"
    said = explain(waits, None)
    assert said is not None
    assert "does not answer" in said
    assert explain(f"{waits}INFO :      SuperNode ID: 623\n", None) is None
    assert explain(START, None) is None
