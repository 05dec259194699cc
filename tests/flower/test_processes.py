"""What is relied on of Flower's programs, its environment and its control API."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from flower_link import SuperLink, make_node_key, make_tls
from flwr.proto.control_pb2 import ListNodesRequest
from flwr.supercore import telemetry, update_check
from flwr.supercore.constant import NodeStatus
from flwr.supercore.utils import get_flwr_home
from flwr.superlink.cli.flower_superlink import (
    _parse_args_run_superlink,
    _runtime_dependency_install_default,
)
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

from confide.errors import ConfigError, FlowerError
from confide.flower import processes
from confide.flower.processes import (
    LOOPBACK,
    SuperLinkControl,
    Tls,
    check_version,
    environment,
    free_port,
    superlink_command,
    supernode_command,
)

FILES = Tls(ca=Path("ca.crt"), certificate=Path("server.crt"), key=Path("server.key"))


# --- releases and programs


def test_the_installed_release_is_one_that_was_tested() -> None:
    assert check_version().startswith(processes.TESTED)


@pytest.mark.parametrize("other", ["1.40.0", "1.43.0", "2.0.0", "1.4.1"])
def test_another_release_is_refused_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setattr(processes, "version", lambda name: other)
    with pytest.raises(
        ConfigError,
        match=rf"flwr {other} is installed; expected 1\.41 or 1\.42.*pip install 'flwr~=1\.41\.0'",
    ):
        check_version()


def test_superlink_takes_every_flag() -> None:
    program, *words = superlink_command(
        port=1234, tls=FILES, database=Path("x.db"), secret=Path("secret")
    )
    taken = _parse_args_run_superlink().parse_args(words)
    assert Path(program).name == "flower-superlink"
    assert (taken.host, taken.port, taken.isolation, taken.database) == (
        LOOPBACK,
        1234,
        "process",
        "x.db",
    )
    assert taken.enable_supernode_auth
    assert (taken.ssl_ca_certfile, taken.ssl_certfile, taken.ssl_keyfile) == (
        "ca.crt",
        "server.crt",
        "server.key",
    )
    assert taken.superexec_auth_secret_file == "secret"


def test_supernode_takes_every_flag() -> None:
    command = supernode_command(
        coordinator="fed.example.org:8443",
        ca=FILES.ca,
        key=Path("node.key"),
        port=1,
        secret=Path("secret"),
    )
    assert command[:3] == [sys.executable, "-m", "confide.flower.supernode"]
    taken = _parse_args_run_supernode().parse_args(command[3:])
    assert (taken.superlink, taken.root_certificates) == ("fed.example.org:8443", "ca.crt")
    assert (taken.auth_supernode_private_key, taken.isolation) == ("node.key", "process")
    assert (taken.host, taken.port, taken.superexec_auth_secret_file) == (LOOPBACK, 1, "secret")


def test_a_program_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigError,
        match=r"flower-superlink is not installed with .*`pip install flwr` installs it",
    ):
        superlink_command(port=1, tls=FILES, database=Path("x"), secret=Path("y"))


# --- environment


def test_flower_reads_every_variable_that_is_set_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert get_flwr_home() == tmp_path
    assert not _runtime_dependency_install_default()
    assert update_check.FLWR_DISABLE_UPDATE_CHECK == "FLWR_DISABLE_UPDATE_CHECK"
    assert "FLWR_TELEMETRY_ENABLED" in vars(telemetry)


def test_what_else_is_set_for_flower_is_left_out_and_loopback_has_no_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLWR_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("NO_PROXY", "intranet,localhost")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    made = environment(tmp_path)
    assert "FLWR_LOG_LEVEL" not in made
    assert made["NO_PROXY"] == made["no_proxy"] == "intranet,localhost,127.0.0.1"
    assert made["no_grpc_proxy"] == made["NO_PROXY"]
    assert made["HTTPS_PROXY"] == "http://proxy:3128"


# --- control API


@pytest.fixture
def keys(tmp_path: Path) -> Mapping[str, Path]:
    """Return keys that this SuperLink has not met: those removed never come back."""
    return {name: make_node_key(tmp_path, name) for name in ("ann", "bob", "eve")}


def statuses(superlink: SuperLink) -> list[str]:
    with superlink.control._client() as client:
        return [node.status for node in client.ListNodes(ListNodesRequest()).nodes_info]


def test_status_words_are_flowers() -> None:
    assert (NodeStatus.ONLINE, NodeStatus.UNREGISTERED) == ("online", "unregistered")


def test_registering_names_nodes_and_again_changes_nothing(
    superlink: SuperLink, keys: Mapping[str, Path]
) -> None:
    first = superlink.control.register(keys)
    assert sorted(first.values()) == ["ann", "bob", "eve"]
    before = statuses(superlink)
    assert superlink.control.register(keys) == first
    assert statuses(superlink) == before


def test_who_left_is_unregistered_and_the_others_keep_their_ids(
    superlink: SuperLink, keys: Mapping[str, Path]
) -> None:
    first = superlink.control.register(keys)
    left = superlink.control.register({name: path for name, path in keys.items() if name != "eve"})
    assert left == {node: name for node, name in first.items() if name != "eve"}
    assert statuses(superlink).count("registered") == 2


def test_who_was_removed_cannot_come_back_with_the_same_key(
    superlink: SuperLink, keys: Mapping[str, Path]
) -> None:
    superlink.control.register(keys)
    superlink.control.register({"ann": keys["ann"]})
    with pytest.raises(ConfigError, match="bob, eve took part before and was removed"):
        superlink.control.register(keys)


def test_who_is_registered_is_not_online_before_it_connects(
    superlink: SuperLink, keys: Mapping[str, Path]
) -> None:
    assert not superlink.control.online() & superlink.control.register({"ann": keys["ann"]}).keys()


def test_a_key_that_is_none_is_named(superlink: SuperLink, tmp_path: Path) -> None:
    (tmp_path / "node.pub").write_text("ssh-rsa nonsense")
    with pytest.raises(ConfigError, match=r"node\.pub is not a public key in OpenSSH format"):
        superlink.control.register({"ann": tmp_path / "node.pub"})


def test_a_run_has_a_number_of_its_own_and_may_be_stopped_twice(superlink: SuperLink) -> None:
    first, second = superlink.control.start_run("trial"), superlink.control.start_run("trial")
    assert 0 < first != second > 0
    for number in (first, second, first, second):
        superlink.control.stop_run(number)


def test_an_address_where_nobody_answers_is_an_error(superlink: SuperLink) -> None:
    nobody = SuperLinkControl(f"{LOOPBACK}:{free_port()}", superlink.tls.ca)
    with pytest.raises(
        FlowerError, match=r"SuperLink at 127\.0\.0\.1:\d+ does not answer \(ConnectError"
    ):
        nobody.register({})
    nobody.stop_run(1)  # nothing to stop


def test_a_superlink_of_another_authority_is_not_spoken_to(
    superlink: SuperLink, tmp_path: Path
) -> None:
    with pytest.raises(FlowerError, match=r"does not answer .*certificate"):
        SuperLinkControl(superlink.address, make_tls(tmp_path).ca).online()
