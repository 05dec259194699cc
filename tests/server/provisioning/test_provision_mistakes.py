"""Mistakes of provisioning, each named; the YAML and the command."""

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from provisioned import FEDERATION, LONGER, check_sound

import confide.cli
from confide.config.run import Config
from confide.errors import ConfigError, StorageError, UnreadableError
from confide.security import certificates, ec_keys
from confide.server.provisioning.provision import (
    provision,
    read_federation,
)

# --- what is wrong


def test_keys_that_do_not_fit_are_named(out: Path, config: Config) -> None:
    secret = out / "institutions" / "Cleveland" / "node.key"
    secret.write_text(ec_keys.node_key_text(ec_keys.make_key()))
    with pytest.raises(
        ConfigError,
        match=r"Cleveland/node\.key does not fit .*Cleveland\.pub.*--replace 'Cleveland'",
    ):
        provision(FEDERATION, config, out)
    (out / "authority" / "ca.key").write_text(ec_keys.private_pem(ec_keys.make_key()))
    secret.unlink()
    with pytest.raises(
        ConfigError, match=r"ca\.key is not the key of the authority that the kits trust"
    ):
        provision(replace(FEDERATION, hosts=["new.fed.example.org"]), config, out)


def test_a_folder_of_another_federation_is_refused(out: Path, config: Config) -> None:
    with pytest.raises(
        ConfigError, match=r"name=lung: the authority in .* belongs to 'heart'; give another --out"
    ):
        provision(replace(FEDERATION, name="lung"), config, out)


def test_a_second_authority_is_refused(out: Path, config: Config) -> None:
    other = certificates.make_authority("heart", ec_keys.make_key())
    (out / "authority" / "ca.crt").write_text(certificates.certificate_pem(other))
    with pytest.raises(
        ConfigError, match=r"certificates of several authorities .*; keep those of one"
    ):
        provision(FEDERATION, config, out)


def test_damaged_files_are_named(out: Path, config: Config) -> None:
    (out / "coordinator" / "federation.json").write_text("[")
    with pytest.raises(
        UnreadableError,
        match=r"federation\.json is not as it was written .*remove it, and run this again",
    ):
        provision(FEDERATION, config, out)
    (out / "coordinator" / "nodes" / "Cleveland.pub").write_text("ssh")
    with pytest.raises(UnreadableError, match=r"Cleveland\.pub cannot be read as a public key"):
        provision(FEDERATION, config, out)


def test_a_folder_that_cannot_be_made_is_named(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/kits cannot be made"):
        provision(FEDERATION, config, tmp_path / "file" / "kits")


# --- the YAML and the command


def test_every_mistake_of_the_yaml_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "federation.yaml"
    path.write_text(
        "name: ''\nhosts: ['https://a', 10.0.0.500, '*.b', c, C]\nport: 0\ndays: 900\n"
        "institutions: [A, a, ' b', '${x}', '(all together)', '']\nconfig: [task=hart_disease]\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_federation(path)
    problems = caught.value.problems
    assert all(re.match(rf"{path}:\d+: ", problem) for problem in problems)
    for start in (
        "port=0: Input should be greater",
        "days=900: Input should be less",
        "name='': expected 1 to 100",
        "hosts: 'c', 'C' look the same",
        "hosts='https://a': expected a DNS name or an IP address alone",
        "hosts='10.0.0.500'",
        "hosts='*.b'",
        "institutions: 'A', 'a' look the same",
        "institutions=' b'",
        "institutions='${x}'",
        "institutions='(all together)': stands for all",
        "institutions='': expected 1 to 100",
        "config: task=hart_disease: there is no task called hart_disease",
    ):
        placed = [re.match(rf"{path}:[1-6]: {re.escape(start)}", problem) for problem in problems]
        assert len([place for place in placed if place]) == 1, start
    assert len(problems) == 13


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "host: x\nport: '8443'\n",
            r"5 mistakes(.|\n)*host='x': Unexpected keyword argument; the keys are name, hosts",
        ),
        ("- a\n", r"expected keys and values \(name, hosts, .*\), got list"),
        ("a: [", r"federation\.yaml:1: is not YAML: .*; expected that of a federation"),
        ("", r"hosts=\[\]: expected at least one"),
        ("hosts: [2026-01-01]\n", "cannot be read"),
    ],
)
def test_a_yaml_that_is_none_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "federation.yaml").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_federation(tmp_path / "federation.yaml")


def test_the_command_makes_kits_and_says_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # Where fingerprints break, cells beside them do too
    assert (
        confide.cli.main(["provision", "--request", "Hungary", "--out", str(tmp_path / "theirs")])
        == 0
    )
    asked = capsys.readouterr().out
    assert "node.csr, trainer.csr: send these files to the coordinator, and nothing else" in asked
    path = tmp_path / "federation.yaml"
    path.write_text(
        yaml.safe_dump({**dataclasses.asdict(LONGER), "config": ["experiment=heart_disease"]})
    )
    requests = [str(tmp_path / "theirs" / f"{role}.csr") for role in ("node", "trainer")]
    words = ["--csr", requests[0], "--csr", requests[1]]
    assert confide.cli.main(["provision", str(path), *words]) == 0
    shown = capsys.readouterr().out
    for said in (
        "Hungary",
        "at the institution",
        "in the kit",
        "take it offline",
        "fed.example.org:8443",
    ):
        assert said in shown
    check_sound(tmp_path / "kits", LONGER)
    path.write_text(path.read_text().replace("- Cleveland\n", ""))
    assert confide.cli.main(["provision", str(path)]) == 0
    assert "Cleveland was removed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--out", "x"], "Expected either FEDERATION.yaml"),
        (["a.yaml", "--request", "B"], "Expected either FEDERATION.yaml"),
        (["--request", "B", "--csr", "x"], "--server-authority are for the coordinator"),
        (["nowhere.yaml"], "nowhere.yaml cannot be read"),
    ],
)
def test_a_wrong_command_is_named(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide.cli.main(["provision", *words]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["fed.example.org", "FED.example.org", "*.example.org", "fed.example.org.", "localhost"]
)
def test_an_institution_is_called_by_none_of_the_coordinators_hosts(name: str) -> None:
    federation = replace(
        FEDERATION, hosts=["fed.example.org", "localhost"], institutions=["Cleveland", name]
    )
    (problem,) = federation.problems()
    assert problem.startswith(f"institutions={name!r}: TLS would take the certificate")


def test_institutions_may_have_dots_and_odd_names() -> None:
    names = ["mill.example.org", "Ward [a-z]", "St. Mary's", "x*", "10.0.0.7"]
    federation = replace(FEDERATION, hosts=["fed.example.org"], institutions=names)
    assert list(federation.problems()) == []
