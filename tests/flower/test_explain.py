"""What Flower's processes say when they end, and what is made of it."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment_run import free_port

from confide.flower.explain import explain
from confide.flower.processes import LOOPBACK, environment, supernode_command
from confide.security import certificates, ec_keys

START = "INFO :      Starting Flower SuperNode\n"
TLS = (
    "Exit Code: 305\nFailed to initialize the connection.\n[SSL: CERTIFICATE_VERIFY_FAILED]"
    " certificate verify failed: "
)
VERSION = (
    "Exit Code: 606\nRuntime version compatibility check failed.\nexpected flwr 1.41, got"
    " '1.40.0'\n"
)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (f"{TLS}certificate has expired (_ssl.c:1006)", "has expired.*provision"),
        (f"{TLS}certificate is not yet valid (_ssl.c:1006)", "not valid yet.*NTP"),
        (
            f"{TLS}unable to get local issuer certificate (_ssl.c:1006)",
            "not signed by ca.crt.*telephone",
        ),
        (
            f"{TLS}IP address mismatch, certificate is not valid for '10.0.0.1'. (_ssl.c:1006)",
            "not for '10.0.0.1'.*address",
        ),
        (
            f"{TLS}Hostname mismatch, certificate is not valid for 'fed.example'. (_ssl.c:1)",
            "not for 'fed.example'.*address",
        ),
        (
            "Exit Code: 305\n[code: 2004] Failed to activate SuperNode.",
            "not registered.*less than a minute ago.*60 s",
        ),
        (VERSION, "release of Flower.*expected flwr 1.41, got '1.40.0'.*same minor"),
        ("[Errno 98] error while attempting to bind: address already in use", "runtime_port"),
        ("Exit Code: 302\nUnable to parse the private key file.", "node.key.*OpenSSH"),
        (
            "ERROR :     Path argument `--root-certificates` does not point to a file.",
            "ca.crt is missing",
        ),
        ("INFO :      SuperNode terminated gracefully.", "401.*clock"),
    ],
)
def test_every_end_that_is_known_gets_a_sentence_with_its_fix(told: str, words: str) -> None:
    said = explain(START + told, 1)
    assert said is not None
    assert re.search(words, said), said
    assert said.endswith("`confide doctor` shows more.")


def test_only_the_last_start_counts() -> None:
    assert explain(f"{START}[code: 2004] Failed\n{START}INFO: all is well", 1) is None


def test_a_node_that_runs_waits_until_it_is_connected() -> None:
    waits = f"{START}WARNING :   Connection attempt failed, retrying in 0.42 seconds\n"
    said = explain(waits, None)
    assert said is not None
    assert "does not answer" in said
    assert explain(f"{waits}INFO :      SuperNode ID: 623\n", None) is None
    # After a coordinator's restart it says nothing of its connection any more
    assert explain(f"{waits}INFO :      Received successfully\n", None) is None
    assert explain(f"INFO :      Sent successfully\n{waits}", None) is not None
    assert explain(START, None) is None


# --- what flwr really prints; TLS, keys and releases are tried in tests/deployment/test_refusals.py


@pytest.fixture(scope="module")
def supernodes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[str, int | None]]]:
    """Start SuperNodes that cannot do their work, side by side: name -> log, exit status."""
    folder = tmp_path_factory.mktemp("supernodes")
    (folder / "secret").write_bytes(bytes(32))
    (folder / "node.key").write_text(ec_keys.node_key_text(ec_keys.make_key()))
    (folder / "bad.key").write_text("nonsense")
    (folder / "ca.crt").write_text(
        certificates.certificate_pem(certificates.make_authority("a", ec_keys.make_key()))
    )
    with socket.create_server((LOOPBACK, 0)) as taken:
        port, nobody = taken.getsockname()[1], free_port()
        wanted = {
            "key": {"key": folder / "bad.key", "ca": folder / "ca.crt", "port": nobody},
            "ca": {"key": folder / "node.key", "ca": folder / "gone.crt", "port": nobody},
            "port": {"key": folder / "node.key", "ca": folder / "ca.crt", "port": port},
            "waits": {"key": folder / "node.key", "ca": folder / "ca.crt", "port": free_port()},
            "plain": {
                "key": folder / "node.key",
                "ca": folder / "ca.crt",
                "port": nobody,
            },  # calls itself
        }
        processes = {}
        for name, options in wanted.items():
            address = f"{LOOPBACK}:{nobody if name == 'plain' else 9}"
            command = supernode_command(coordinator=address, secret=folder / "secret", **options)  # type: ignore[arg-type]
            with (folder / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    command, stdout=log, stderr=log, env=environment(folder / name)
                )
        try:
            yield {
                name: _outcome(process, folder / f"{name}.log")
                for name, process in processes.items()
            }
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


def _outcome(process: subprocess.Popen[bytes], log: Path) -> tuple[str, int | None]:
    end = time.monotonic() + 30
    while process.poll() is None and "retrying" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    return log.read_text(), process.poll()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("key", "node.key is no"),
        ("ca", "ca.crt is missing"),
        ("port", "is in use"),
        ("waits", "does not answer"),
        ("plain", "does not speak TLS"),
    ],
)
def test_the_words_are_flowers_own(
    supernodes: dict[str, tuple[str, int | None]], name: str, words: str
) -> None:
    log, status = supernodes[name]
    said = explain(log, status)
    assert said is not None, log
    assert words in said
