"""Provisioning: what is made, who gets which secret, and what running it again changes."""

import base64
import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

import confide.cli
from confide.config.compose import compose
from confide.config.model import TransformerConfig
from confide.config.run import Config
from confide.deployment.federation import FederationConfig
from confide.errors import ConfigError, StorageError, UnreadableError
from confide.security import pki
from confide.server.provisioning.provision import (
    Provisioned,
    make_request,
    provision,
    read_federation,
)
from confide.server.provisioning.texts import client_yaml
from confide.storage.files import folder_name

FEDERATION = FederationConfig(
    name="heart", hosts=["fed.example.org", "10.0.0.5"], institutions=["Cleveland", "VA Long Beach"]
)
LONGER = replace(FEDERATION, institutions=["Cleveland", "VA Long Beach", "Hungary"])
KIT = ["README.md", "ca.crt", "client.yaml", "node.key", "node.pub"]
COORDINATOR = [
    "README.md",
    "ca.crt",
    "federation.json",
    "loopback.crt",
    "loopback.key",
    "server.crt",
    "server.key",
]
NOW = datetime.datetime.now(datetime.UTC)


class KilledError(BaseException):
    """Stands for a process that ends at once."""


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(["experiment=heart_disease", "privacy=record"])


@pytest.fixture(scope="module")
def made(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "kits"
    provision(FEDERATION, config, out)
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "kits"))


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def times(out: Path) -> dict[str, int]:
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def states(done: Provisioned) -> dict[str, str]:
    return {kit.name: kit.state for kit in done.kits}


def check_sound(out: Path, federation: FederationConfig) -> None:
    """Hold everything that was made against everything else."""
    authority = pki.read_certificate(out / "authority" / "ca.crt")
    assert pki.is_key_of(pki.read_private_key(out / "authority" / "ca.key"), authority)
    for stem in ("server", "loopback"):
        certificate = pki.read_certificate(out / "coordinator" / f"{stem}.crt")
        assert pki.is_issued_by(certificate, authority)
        assert pki.is_key_of(pki.read_private_key(out / "coordinator" / f"{stem}.key"), certificate)
    roster = json.loads((out / "coordinator" / "federation.json").read_text())
    assert list(roster["institutions"]) == federation.institutions
    assert len(list((out / "coordinator" / "nodes").iterdir())) == len(federation.institutions)
    for name, file in roster["institutions"].items():
        kit = out / "institutions" / folder_name(name)
        public = pki.read_public_key(kit / "node.pub")
        assert public == pki.read_public_key(out / "coordinator" / file)
        assert (kit / "ca.crt").read_bytes() == (out / "authority" / "ca.crt").read_bytes()
        if (kit / "node.key").exists():
            assert pki.is_pair(pki.read_node_key(kit / "node.key"), public)
        made_by_coordinator = "made by the coordinator" in (kit / "README.md").read_text()
        assert made_by_coordinator == (kit / "node.key").exists()
    assert not list(out.rglob(".*"))


# --- a first run


def test_a_first_run_makes_the_tree_and_nothing_else(made: Path) -> None:
    expected = {f"authority/{name}" for name in ("ca.crt", "ca.key")} | {
        f"coordinator/{name}" for name in COORDINATOR
    }
    for folder in ("Cleveland", "VA%20Long%20Beach"):
        expected |= {
            f"coordinator/nodes/{folder}.pub",
            *(f"institutions/{folder}/{name}" for name in KIT),
        }
    assert set(files(made)) == expected
    check_sound(made, FEDERATION)


def test_keys_are_their_owners_alone(made: Path) -> None:
    for path in (made, *made.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600 if path.suffix == ".key" else 0o644), path


def test_no_key_can_be_read_by_others_at_any_moment(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(source: str, target: Path) -> None:
        if target.suffix == ".key":
            seen.append(target.name)
            assert not os.stat(source).st_mode & 0o077
            assert not target.parent.stat().st_mode & 0o077
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", watched)
    mask = os.umask(0)
    try:
        provision(FEDERATION, config, tmp_path / "a" / "kits")
    finally:
        os.umask(mask)
    assert sorted(seen) == ["ca.key", "loopback.key", "node.key", "node.key", "server.key"]


def private_number(path: Path) -> bytes:
    key = (pki.read_node_key if path.name == "node.key" else pki.read_private_key)(path)
    return key.private_numbers().private_value.to_bytes(48, "big").lstrip(b"\0")


def unarmoured(path: Path) -> bytes:
    """Return a file, and what any PEM in it encodes."""
    text = path.read_text()
    return text.encode() + b"".join(
        map(base64.b64decode, re.findall(r"-----BEGIN .*?-----\n(.*?)-----END", text, re.DOTALL))
    )


def test_no_kit_holds_a_secret_of_another(made: Path) -> None:
    secrets = {path: private_number(path) for path in made.rglob("*.key")}
    assert len(secrets) == 5
    for folder in [made / "authority", made / "coordinator", *(made / "institutions").iterdir()]:
        content = b"\n".join(unarmoured(path) for path in folder.rglob("*") if path.is_file())
        for owner, number in secrets.items():
            assert (number in content) == (owner.parent == folder), (owner, folder)


def test_loopback_is_for_this_machine_alone(made: Path) -> None:
    loopback, server = (
        pki.read_certificate(made / "coordinator" / f"{stem}.crt")
        for stem in ("loopback", "server")
    )
    assert pki.hosts_of(loopback) == ["127.0.0.1", "::1", "localhost"]
    assert pki.hosts_of(server) == FEDERATION.hosts


def test_the_roster_names_public_keys(made: Path) -> None:
    assert json.loads((made / "coordinator" / "federation.json").read_text()) == {
        "name": "heart",
        "hosts": FEDERATION.hosts,
        "port": 8443,
        "institutions": {
            "Cleveland": "nodes/Cleveland.pub",
            "VA Long Beach": "nodes/VA%20Long%20Beach.pub",
        },
    }


def test_a_kit_says_what_its_reader_needs(made: Path) -> None:
    page = (made / "institutions" / "Cleveland" / "README.md").read_text()
    order = [
        page.index(f"`confide {command} KIT`") for command in ("doctor", "client", "client status")
    ]
    assert order == sorted(order)
    for said in (
        "fed.example.org:8443",
        pki.fingerprint(pki.read_certificate(made / "authority" / "ca.crt")),
        *KIT[1:],
    ):
        assert said in page
    assert "Keep `authority/` offline" in (made / "coordinator" / "README.md").read_text()


# --- client.yaml


def loaded(text: str) -> dict[str, Any]:
    values = OmegaConf.create(text)
    values.data.path = "records.csv"
    values.policy.budget.epsilon = 8
    container: Any = OmegaConf.to_container(values, resolve=True)
    return dict(container)


def test_the_task_is_written_out_in_full(made: Path, config: Config) -> None:
    text = (made / "institutions" / "Cleveland" / "client.yaml").read_text()
    values = loaded(text)
    assert values.pop("task") == dataclasses.asdict(config.task)
    assert values == {
        "defaults": ["institution", "_self_"],
        "name": "Cleveland",
        "coordinator": {"address": "fed.example.org:8443"},
        "data": {"path": "records.csv"},
        "policy": {"budget": {"epsilon": 8}},
        "backbones": [],
    }
    assert 'data: {path: "???"}         # your records' in text


@pytest.mark.parametrize("name", ["1e3", "null", 'a: "b" # c', "Hôpital {x} \\", "[a]"])
def test_any_name_survives_yaml(name: str, config: Config) -> None:
    text = client_yaml(name, replace(FEDERATION, hosts=["::1"]), config)
    assert loaded(text)["name"] == name
    assert yaml.safe_load(text)["coordinator"] == {"address": "[::1]:8443"}


def test_references_in_a_task_stay_text(config: Config) -> None:
    awkward = replace(
        config, task=replace(config.task, label_values={"${oc.env:HOME}": "absent", "0": r"\${x}"})
    )
    text = client_yaml("Cleveland", FEDERATION, awkward)
    assert list(loaded(text)["task"]["label_values"].values()) == ["absent", r"\${x}"]


def test_a_pretrained_backbone_is_suggested_with_its_hash(config: Config, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    def suggested(name: str) -> str:
        return client_yaml(
            "Cleveland", FEDERATION, replace(config, backbone=TransformerConfig(name=name))
        )

    text = suggested(str(tmp_path))
    assert re.search(r"^  # backbones: \[[0-9a-f]{64}\]", text, re.MULTILINE)
    assert f'# backbones: ["/path/to/{tmp_path.name}"]' in text
    assert str(tmp_path) not in text
    assert '# backbones: ["pkg://nobody/model"]' in suggested("pkg://nobody/model")
    assert loaded(text)["backbones"] == []


# --- running it again


def test_running_it_again_writes_nothing(out: Path, config: Config) -> None:
    before = times(out)
    done = provision(FEDERATION, config, out)
    assert times(out) == before
    assert set(states(done).values()) == {"unchanged"}
    assert (done.removed, done.notes) == ([], [])


def test_an_institution_is_added_without_the_authority(out: Path, config: Config) -> None:
    (out / "institutions" / "Cleveland" / "client.yaml").write_text("name: Cleveland\n# ours now\n")
    shutil.rmtree(out / "authority")
    before = files(out)
    done = provision(LONGER, config, out)
    after = files(out)
    assert states(done) == {
        "Cleveland": "unchanged",
        "VA Long Beach": "unchanged",
        "Hungary": "made",
    }
    assert {name for name in before if after[name] != before[name]} == {
        "coordinator/federation.json"
    }
    assert set(after) - set(before) == {
        "coordinator/nodes/Hungary.pub",
        *(f"institutions/Hungary/{name}" for name in KIT),
    }


def test_new_hosts_need_a_new_certificate_and_say_so(out: Path, config: Config) -> None:
    before = files(out)
    done = provision(replace(FEDERATION, hosts=["new.example.org"]), config, out)
    changed = {name for name, content in files(out).items() if content != before[name]}
    assert changed == {
        "coordinator/README.md",
        "coordinator/federation.json",
        "coordinator/server.crt",
    }
    assert (
        "server.crt was issued anew: hosts changed from fed.example.org, 10.0.0.5 to"
        " new.example.org" in done.notes[0]
    )
    assert "address changed from fed.example.org:8443 to new.example.org:8443" in done.notes[1]


def test_the_order_of_hosts_needs_no_new_certificate(out: Path, config: Config) -> None:
    before = (out / "coordinator" / "server.crt").read_bytes()
    provision(replace(FEDERATION, hosts=FEDERATION.hosts[::-1]), config, out)
    assert (out / "coordinator" / "server.crt").read_bytes() == before


@pytest.mark.parametrize(("days_later", "count"), [(334, 0), (336, 2), (400, 2)])
def test_certificates_are_issued_anew_within_thirty_days_of_their_end(
    days_later: int, count: int, out: Path, config: Config
) -> None:
    done = provision(FEDERATION, config, out, now=NOW + datetime.timedelta(days=days_later))
    assert len(done.notes) == count
    assert all("it expires on" in note for note in done.notes)


def test_certificates_of_a_few_days_are_not_issued_at_every_run(
    config: Config, tmp_path: Path
) -> None:
    short = replace(FEDERATION, days=10)
    provision(short, config, tmp_path / "kits", now=NOW)
    assert not provision(
        short, config, tmp_path / "kits", now=NOW + datetime.timedelta(days=4)
    ).notes
    assert provision(short, config, tmp_path / "kits", now=NOW + datetime.timedelta(days=6)).notes


def test_an_offline_authority_that_is_needed_is_missed(out: Path, config: Config) -> None:
    (out / "authority" / "ca.key").unlink()
    before = files(out)
    with pytest.raises(
        ConfigError, match=r"ca\.key is not there, and .*hosts changed.*bring the folder back"
    ):
        provision(replace(LONGER, hosts=["new.example.org"]), config, out)
    assert files(out) == before


def test_an_authority_near_its_end_signs_no_more(out: Path, config: Config) -> None:
    with pytest.raises(
        ConfigError,
        match=r"authority expires on .*, too soon to sign with; provision a new federation",
    ):
        provision(
            FEDERATION, config, out, now=NOW + datetime.timedelta(days=pki.AUTHORITY_DAYS - 10)
        )


def test_whoever_left_the_yaml_loses_the_key_and_keeps_the_kit(out: Path, config: Config) -> None:
    before = files(out)
    done = provision(replace(FEDERATION, institutions=["Cleveland"]), config, out)
    assert done.removed == ["VA Long Beach"]
    assert set(before) - set(files(out)) == {"coordinator/nodes/VA%20Long%20Beach.pub"}
    assert list(
        json.loads((out / "coordinator" / "federation.json").read_text())["institutions"]
    ) == ["Cleveland"]
    provision(FEDERATION, config, out)
    assert files(out) == before


def test_a_key_that_was_delivered_is_not_made_again(out: Path, config: Config) -> None:
    shutil.rmtree(out / "institutions" / "Cleveland")
    done = provision(FEDERATION, config, out)
    assert not done.kits[0].has_key
    assert "not in this kit" in (out / "institutions" / "Cleveland" / "README.md").read_text()
    check_sound(out, FEDERATION)


# --- a run that is killed


@contextlib.contextmanager
def killed_at(step: int) -> Iterator[list[Path]]:
    """Kill the process at its n-th file, before the file is there."""
    done: list[Path] = []

    def counted(source: str, target: Path) -> None:
        if len(done) == step:
            raise KilledError
        done.append(target)
        rename(source, target)

    rename = os.replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", counted)
        yield done


def test_a_run_killed_at_any_file_is_completed_by_the_next(config: Config, tmp_path: Path) -> None:
    with killed_at(-1) as written:
        provision(FEDERATION, config, tmp_path / "whole")
    for step in range(len(written)):
        out = tmp_path / f"killed-{step}"
        with killed_at(step), pytest.raises(KilledError):
            provision(FEDERATION, config, out)
        survived = files(out)
        provision(FEDERATION, config, out)
        check_sound(out, FEDERATION)
        after = files(out)
        assert all(after[name] == content for name, content in survived.items() if "/." not in name)


def test_a_replacement_killed_at_any_file_is_completed_by_the_next(
    made: Path, config: Config, tmp_path: Path
) -> None:
    make_request("Cleveland", tmp_path / "theirs")
    request = [tmp_path / "theirs" / "node.csr"]
    for step in range(3):
        out = shutil.copytree(made, tmp_path / f"killed-{step}")
        with killed_at(step), pytest.raises(KilledError):
            provision(FEDERATION, config, out, requests=request, replace=["Cleveland"])
        provision(FEDERATION, config, out, requests=request, replace=["Cleveland"])
        check_sound(out, FEDERATION)
        assert (
            pki.read_public_key(out / "coordinator" / "nodes" / "Cleveland.pub")
            == pki.read_request(request[0]).public_key
        )


def test_two_runs_at_once_are_refused(out: Path, config: Config) -> None:
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="Another `confide provision` writes to"):
        provision(FEDERATION, config, out)
    os.close(handle)


# --- requests


def test_a_kit_made_from_a_request_holds_no_private_key(config: Config, tmp_path: Path) -> None:
    requested = make_request("Hungary", tmp_path / "theirs")
    done = provision(LONGER, config, tmp_path / "kits", requests=[tmp_path / "theirs" / "node.csr"])
    kit = tmp_path / "kits" / "institutions" / "Hungary"
    assert sorted(path.name for path in kit.iterdir()) == [
        "README.md",
        "ca.crt",
        "client.yaml",
        "node.pub",
    ]
    assert (kit / "node.pub").read_bytes() == (tmp_path / "theirs" / "node.pub").read_bytes()
    assert done.kits[2].key_fingerprint == requested.key_fingerprint
    check_sound(tmp_path / "kits", LONGER)
    before = files(tmp_path / "kits")
    provision(LONGER, config, tmp_path / "kits")
    assert files(tmp_path / "kits") == before


def test_a_request_made_again_keeps_its_key(tmp_path: Path) -> None:
    make_request("Hungary", tmp_path / "theirs")
    assert (tmp_path / "theirs" / "node.key").stat().st_mode & 0o777 == 0o600
    before = files(tmp_path / "theirs")
    make_request("Hungary", tmp_path / "theirs")
    assert files(tmp_path / "theirs") == before
    make_request("Budapest", tmp_path / "theirs")
    assert {
        name for name, content in files(tmp_path / "theirs").items() if content != before[name]
    } == {"node.csr"}


def test_another_key_is_taken_only_when_told(out: Path, config: Config, tmp_path: Path) -> None:
    make_request("Cleveland", tmp_path / "theirs")
    request = [tmp_path / "theirs" / "node.csr"]
    before = files(out)
    with pytest.raises(
        ConfigError, match=r"'Cleveland' is known by key SHA256:.*give --replace 'Cleveland'"
    ):
        provision(FEDERATION, config, out, requests=request)
    assert files(out) == before
    done = provision(FEDERATION, config, out, requests=request, replace=["Cleveland"])
    after = files(out)
    assert states(done) == {"Cleveland": "new key", "VA Long Beach": "unchanged"}
    kit = "institutions/Cleveland"
    assert set(before) - set(after) == {f"{kit}/node.key"}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"{kit}/node.pub", f"{kit}/README.md", "coordinator/nodes/Cleveland.pub"}
    check_sound(out, FEDERATION)


def test_wrong_requests_are_all_named(out: Path, config: Config, tmp_path: Path) -> None:
    for folder, name in (("a", "Cleveland"), ("b", "Cleveland"), ("c", "Basel")):
        make_request(name, tmp_path / folder)
    (tmp_path / "d.csr").write_text("hello")
    requests = [*(tmp_path / folder / "node.csr" for folder in "abc"), tmp_path / "d.csr"]
    with pytest.raises(ConfigError) as caught:
        provision(FEDERATION, config, out, requests=requests)
    second, stranger, broken = caught.value.problems
    assert "is a second request of 'Cleveland'" in second
    assert (
        "is of 'Basel', which institutions=[Cleveland, VA Long Beach] lacks; add it there"
        in stranger
    )
    assert "cannot be read as a certificate request" in broken


def test_one_key_for_two_is_refused(config: Config, tmp_path: Path) -> None:
    for name in FEDERATION.institutions:
        make_request(name, tmp_path / "theirs")
        shutil.copy(tmp_path / "theirs" / "node.csr", tmp_path / f"{name}.csr")
    with pytest.raises(
        ConfigError, match="'Cleveland' and 'VA Long Beach' have the same public key"
    ):
        provision(FEDERATION, config, tmp_path / "kits", requests=sorted(tmp_path.glob("*.csr")))


def test_a_replacement_needs_a_request(out: Path, config: Config) -> None:
    with pytest.raises(
        ConfigError,
        match="--replace 'Cleveland' needs the request of the new key; give --csr FILE too",
    ):
        provision(FEDERATION, config, out, replace=["Cleveland"])


def test_a_name_that_fits_no_request_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--request='ü+' takes 80 bytes in UTF-8, and a certificate holds 64"
    ):
        make_request("ü" * 40, tmp_path)


# --- what is wrong


def test_keys_that_do_not_fit_are_named(out: Path, config: Config) -> None:
    secret = out / "institutions" / "Cleveland" / "node.key"
    secret.write_text(pki.node_key_text(pki.make_key()))
    with pytest.raises(
        ConfigError,
        match=r"Cleveland/node\.key does not fit .*Cleveland\.pub.*--replace 'Cleveland'",
    ):
        provision(FEDERATION, config, out)
    (out / "authority" / "ca.key").write_text(pki.private_pem(pki.make_key()))
    secret.unlink()
    with pytest.raises(
        ConfigError, match=r"ca\.key is not the key of the authority that the kits trust"
    ):
        provision(replace(FEDERATION, hosts=["new.example.org"]), config, out)


def test_a_folder_of_another_federation_is_refused(out: Path, config: Config) -> None:
    with pytest.raises(
        ConfigError, match=r"name=lung: the authority in .* is of 'heart'; give another --out"
    ):
        provision(replace(FEDERATION, name="lung"), config, out)


def test_a_second_authority_is_refused(out: Path, config: Config) -> None:
    other = pki.make_authority("heart", pki.make_key())
    (out / "authority" / "ca.crt").write_text(pki.certificate_pem(other))
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
        "institutions: [A, a, ' b', '${x}', '']\nconfig: [task=hart_disease]\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_federation(path)
    problems = caught.value.problems
    assert all(problem.startswith(f"{path}: ") for problem in problems)
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
        "institutions='': expected 1 to 100",
        "config: task=hart_disease: there is no task called hart_disease",
    ):
        assert sum(problem.startswith(f"{path}: {start}") for problem in problems) == 1, start
    assert len(problems) == 12


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "host: x\nport: '8443'\n",
            r"5 mistakes(.|\n)*host='x': Unexpected keyword argument; the keys are name, hosts",
        ),
        ("- a\n", r"expected keys and values \(name, hosts, .*\), got list"),
        ("a: [", r"cannot be read (.|\n)*expected the YAML of a federation"),
        ("", r"hosts=\[\]: expected at least one"),
        ("hosts: [2026-01-01]\n", "cannot be read"),
    ],
)
def test_a_yaml_that_is_none_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "federation.yaml").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_federation(tmp_path / "federation.yaml")


def test_the_command_makes_kits_and_says_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        confide.cli.main(["provision", "--request", "Hungary", "--out", str(tmp_path / "theirs")])
        == 0
    )
    asked = capsys.readouterr().out
    assert "node.csr: send this file to the coordinator, and nothing else" in asked
    path = tmp_path / "federation.yaml"
    path.write_text(
        yaml.safe_dump({**dataclasses.asdict(LONGER), "config": ["experiment=heart_disease"]})
    )
    assert (
        confide.cli.main(["provision", str(path), "--csr", str(tmp_path / "theirs" / "node.csr")])
        == 0
    )
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
        (["--request", "B", "--csr", "x"], "--csr and --replace are the coordinator's"),
        (["nowhere.yaml"], "nowhere.yaml cannot be read"),
    ],
)
def test_a_wrong_command_is_named(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide.cli.main(["provision", *words]) == 2
    assert complaint in capsys.readouterr().err
