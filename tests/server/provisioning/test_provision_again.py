"""Provisioning run again, or killed on its way."""

import contextlib
import datetime
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from provisioned import FEDERATION, KIT, LONGER, NOW, KilledError, check_sound, files, states, times

from confide.config.run import Config
from confide.errors import ConfigError
from confide.security import certificates, ec_keys, signing_requests
from confide.server.provisioning.provision import (
    make_request,
    provision,
)

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
        *(f"institutions/Hungary/{name}" for name in KIT if not name.startswith("trainer")),
    }
    assert done.notes == [
        "Hungary needs a new trainer.crt to take part in masked sums: it does not exist. Bring"
        " authority/ back and run this again for it."
    ]


def test_new_hosts_need_a_new_certificate_and_say_so(out: Path, config: Config) -> None:
    before = files(out)
    done = provision(replace(FEDERATION, hosts=["new.fed.example.org"]), config, out)
    changed = {name for name, content in files(out).items() if content != before[name]}
    assert changed == {
        "coordinator/README.md",
        "coordinator/federation.json",
        "coordinator/server.crt",
    }
    assert (
        "server.crt was replaced: hosts changed from fed.example.org, 10.0.0.5 to"
        " new.fed.example.org" in done.notes[0]
    )
    assert "address changed from fed.example.org:8443 to new.fed.example.org:8443" in done.notes[1]


def test_hosts_that_the_authority_does_not_vouch_for_are_refused(out: Path, config: Config) -> None:
    before = files(out)
    hosts = ["fed.example.org", "evil-fed.example.org", "10.0.0.6"]
    with pytest.raises(ConfigError, match=r"evil-fed\.example\.org, 10\.0\.0\.6 is not among"):
        provision(replace(FEDERATION, hosts=hosts), config, out)
    assert files(out) == before
    provision(replace(FEDERATION, hosts=["10.0.0.5"]), config, out)


def test_an_authority_of_an_earlier_release_vouches_for_any_host(
    config: Config, tmp_path: Path
) -> None:
    authority, key = tmp_path / "kits" / "authority", ec_keys.make_key()
    authority.mkdir(parents=True)
    made = certificates.make_authority("heart", key)
    (authority / "ca.crt").write_text(certificates.certificate_pem(made))
    (authority / "ca.key").write_text(ec_keys.private_pem(key))
    provision(FEDERATION, config, tmp_path / "kits")
    provision(replace(FEDERATION, hosts=["other.example.org"]), config, tmp_path / "kits")
    check_sound(tmp_path / "kits", FEDERATION)


def test_the_order_of_hosts_needs_no_new_certificate(out: Path, config: Config) -> None:
    before = (out / "coordinator" / "server.crt").read_bytes()
    provision(replace(FEDERATION, hosts=FEDERATION.hosts[::-1]), config, out)
    assert (out / "coordinator" / "server.crt").read_bytes() == before


@pytest.mark.parametrize(("days_later", "count"), [(334, 0), (336, 3), (400, 3)])
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
        ConfigError, match=r"ca\.key does not exist, and .*hosts changed.*bring the folder back"
    ):
        provision(replace(LONGER, hosts=["new.fed.example.org"]), config, out)
    assert files(out) == before


def test_an_authority_near_its_end_signs_no_more(out: Path, config: Config) -> None:
    with pytest.raises(
        ConfigError,
        match=r"authority expires on .*, too soon to sign with; provision a new federation",
    ):
        provision(
            FEDERATION,
            config,
            out,
            now=NOW + datetime.timedelta(days=certificates.AUTHORITY_DAYS - 10),
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
            ec_keys.read_public_key(out / "coordinator" / "nodes" / "Cleveland.pub")
            == signing_requests.read_request(request[0]).public_key
        )


def test_two_runs_at_once_are_refused(out: Path, config: Config) -> None:
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="Another `confide provision` is writing to"):
        provision(FEDERATION, config, out)
    os.close(handle)
