"""What kits are installed from: units, users, folders, logs, and what a run is started with."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from provisioned import FEDERATION
from run_unit import read_unit, system_calls

from confide.server.provisioning.services import (
    Side,
    coordinator,
    institution,
    slug,
    write_services,
)

ODD = """O'Neil "East" 100% & \\Söhne"""
SCRIPT = Path(__file__).parents[3] / "server" / "provisioning" / "service" / "install.sh"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@pytest.fixture(params=["institution", "coordinator"])
def side(request: pytest.FixtureRequest) -> Side:
    federation = replace(FEDERATION, name=ODD)
    return (
        coordinator(federation) if request.param == "coordinator" else institution(ODD, federation)
    )


@pytest.fixture
def units(side: Side, tmp_path: Path) -> list[Path]:
    write_services(tmp_path, side)
    return sorted((tmp_path / "service").glob("*.service"))


@needs_systemd
def test_systemd_finds_nothing_wrong_in_a_unit(units: list[Path]) -> None:
    for unit in units:
        # Installed later, and not on this machine
        unit.write_text(unit.read_text().replace("/opt/confide/current/bin/confide", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize(("role", "most"), [("trainer", 10), ("", 20)])
def test_what_a_unit_is_exposed_to_is_little(units: list[Path], role: str, most: int) -> None:
    """In tenths of systemd's own scale, 100 being a process without any fence."""
    for unit in units:
        if role in unit.stem:
            done = subprocess.run(
                ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", str(unit)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout[-300:]


@needs_systemd
def test_no_service_may_change_its_user_or_load_code_into_the_kernel(units: list[Path]) -> None:
    for unit in units:
        calls = system_calls(read_unit(unit)["SystemCallFilter"])
        assert {"read", "mmap", "clone3", "futex"} <= calls
        assert not {"setuid", "setgroups", "mount", "ptrace", "init_module", "bpf"} & calls


def test_only_the_trainer_has_no_network_and_only_it_writes_the_ledger(tmp_path: Path) -> None:
    side = institution("Cleveland", FEDERATION)
    write_services(tmp_path, side)
    read = {it.role: read_unit(tmp_path / "service" / side.unit(it)) for it in side.services}
    alone = {role for role, unit in read.items() if unit.get("PrivateNetwork") == ["yes"]}
    writers = {
        role
        for role, unit in read.items()
        if f"{side.home}/ledger" in unit.get("ReadWritePaths", [])
    }
    assert (alone, writers) == ({"trainer"}, {"trainer"})
    owners = {path: (mode, user) for path, mode, user, _ in side.folders}
    assert owners[f"{side.home}/ledger"] == ("0700", "confide-trainer")
    assert {name: rest[:2] for name, *rest in side.owned} == {
        "client.yaml": ["0640", "root"],
        "node.key": ["0600", "confide-supernode"],
        "trainer.key": ["0600", "confide-trainer"],
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("heart", "heart"),
        ("Herz & Gefäße 2026", "herz-gefasse-2026"),
        ("../../etc", "etc"),
        ("a" * 64, "a" * 30),
        ("心臓", "e7e8bc2e"),
    ],
)
def test_a_federation_s_name_becomes_one_of_units_and_folders(name: str, expected: str) -> None:
    made = slug(name)
    assert re.fullmatch("[a-z0-9]([a-z0-9-]*[a-z0-9])?", made)
    assert made == expected


def test_a_socket_below_the_longest_name_is_not_too_long() -> None:
    home = institution("Cleveland", replace(FEDERATION, name="m" * 64)).home
    assert len(f"{home}/state/trainer/trainer.sock") <= 107


def test_names_reach_systemd_as_they_are(side: Side, tmp_path: Path) -> None:
    write_services(tmp_path, side)
    facts = (tmp_path / "service" / "install.conf").read_text().splitlines()
    assert {f"who={side.who}", f"federation={ODD}"} <= set(facts)
    for unit in (tmp_path / "service").glob("*.service"):
        described = re.findall("^Description=(.*)$", unit.read_text(), re.MULTILINE)
        assert [text.replace("%%", "%") for text in described] == [
            f"confide {unit.stem.rpartition('-')[2]} of {side.who} (federation {ODD})"
        ]


def test_a_run_is_started_with_the_words_of_the_federation(tmp_path: Path) -> None:
    words = ['task.label_column=it\'s `5` \\$HOME "a"', "privacy=record"]
    side = coordinator(FEDERATION)
    write_services(tmp_path, side, words)
    # A shell reads both layers of quotes as systemd does
    read = subprocess.run(
        ["sh", "-c", '. "$1"; eval "set -- $CONFIDE_RUN"; printf "%s\\n" "$@"', "sh",
         str(tmp_path / "run.conf")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert read.stdout.splitlines() == [side.home, *words]


def test_rotation_leaves_audit_logs_alone(side: Side, tmp_path: Path) -> None:
    write_services(tmp_path, side)
    text = (tmp_path / "service" / "logrotate.conf").read_text()
    patterns = re.findall(r"^(/\S+) \{$", text, re.MULTILINE)
    assert patterns
    for pattern in patterns:
        assert not Path("/x/audit-00000001.jsonl").match(Path(pattern).name)
        assert Path("/x/trainer.log").match(Path(pattern).name)
        assert "audit" not in pattern


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_script_has_no_mistake_that_shellcheck_knows() -> None:
    done = subprocess.run(
        ["shellcheck", "--shell=sh", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
