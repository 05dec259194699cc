"""`install.sh`, run for real on machines of its own: what it makes, keeps and refuses."""

import datetime
import hashlib
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from machines import Machine, tree, why_not
from provisioned import FEDERATION
from wheelhouses import make_wheelhouse

from confide.config.run import Config
from confide.server.provisioning.provision import provision

HOME = "/srv/confide/heart"
PLACES = ("/srv", "/opt/confide", "/etc", "/var/lib")
PROGRAM = "/opt/confide/current/bin/confide"

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine") as machine:
        yield machine


@pytest.fixture
def kit(out: Path) -> Path:
    """A kit in a folder with a space and a quote in its name."""
    folder = out.parent / 'VA\'s "kit" here'
    shutil.copytree(out / "institutions" / "VA%20Long%20Beach", folder)
    return folder


def install(machine: Machine, kit: Path, *words: str, stdin: str = "") -> str:
    return machine.run("sh", str(kit / "install.sh"), *words, stdin=stdin).stdout


def refused(machine: Machine, kit: Path, *words: str, stdin: str = "") -> str:
    done = machine.run("sh", str(kit / "install.sh"), *words, stdin=stdin, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


def steps(told: str, heading: str) -> list[str]:
    """Return the steps told after a heading."""
    lines = told.partition(heading)[2].splitlines()
    return [line[2:] for line in itertools.takewhile(lambda line: line.startswith("  "), lines)]


def test_a_dry_run_says_what_is_done_and_changes_nothing(machine: Machine, kit: Path) -> None:
    machine.link_program()
    before = tree(machine, *PLACES)
    planned = install(machine, kit, "--dry-run")
    assert "Nothing was changed" in planned
    assert tree(machine, *PLACES) == before
    done = install(machine, kit, "--yes")
    plan = steps(planned, "To be done:\n")
    assert plan
    assert steps(done, "Doing it:\n") == plan
    assert f"copy node.key to {HOME}" in plan


def test_who_is_asked_and_does_not_agree_has_changed_nothing(machine: Machine, kit: Path) -> None:
    machine.link_program()
    before = tree(machine, *PLACES)
    for answer in ("n\n", ""):
        assert "nothing was changed" in refused(machine, kit, stdin=answer)
    assert tree(machine, *PLACES) == before
    assert "All of it is done." in install(machine, kit, stdin="y\n")


def test_installed_twice_is_installed_once(machine: Machine, kit: Path) -> None:
    machine.link_program()
    install(machine, kit, "--yes")
    before = tree(machine, *PLACES)
    assert "nothing: all is as it should be." in install(machine, kit, "--yes")
    # What systemd itself makes of the same lines at each start of the machine
    machine.run("systemd-sysusers", "/etc/sysusers.d/confide-heart.conf")
    machine.run("systemd-tmpfiles", "--create", "confide-heart.conf")
    assert tree(machine, *PLACES) == before


def test_settings_stay_and_files_follow_a_newer_kit(
    machine: Machine, kit: Path, out: Path, config: Config
) -> None:
    machine.link_program()
    install(machine, kit, "--yes")
    theirs = machine.path(f"{HOME}/client.yaml")
    theirs.write_text(theirs.read_text() + "runtime_port: 9999 # ours\n")
    shutil.copytree(kit, kit.with_name("newer"))
    newer = kit.with_name("newer")
    (newer / "client.yaml").write_text("another\n")
    (newer / "trainer.crt").write_text("renewed\n")
    told = install(machine, newer, "--yes")
    assert steps(told, "To be done:\n") == [f"copy trainer.crt to {HOME}"]
    assert machine.path(f"{HOME}/trainer.crt").read_text() == "renewed\n"
    assert "runtime_port: 9999 # ours" in theirs.read_text()


def test_what_the_coordinator_removes_is_removed(
    machine: Machine, out: Path, config: Config
) -> None:
    machine.link_program()
    install(machine, out / "coordinator", "--yes")
    gone = f"{HOME}-coordinator/nodes/VA%20Long%20Beach.pub"
    assert machine.path(gone).exists()
    provision(replace(FEDERATION, institutions=["Cleveland"]), config, out)
    told = install(machine, out / "coordinator", "--yes")
    assert f"remove {gone}" in steps(told, "To be done:\n")
    assert not machine.path(gone).exists()


def test_the_root_of_an_external_authority_goes_as_it_came(machine: Machine, kit: Path) -> None:
    machine.link_program()
    root, installed = kit / "server-ca.crt", machine.path(f"{HOME}/server-ca.crt")
    root.write_text("another authority's\n")
    install(machine, kit, "--yes")
    assert installed.read_text() == "another authority's\n"
    root.unlink()
    told = install(machine, kit, "--yes")
    assert steps(told, "To be done:\n") == [f"remove {HOME}/server-ca.crt"]
    assert not installed.exists()


def test_a_kit_of_another_is_not_put_over_it(
    machine: Machine, kit: Path, out: Path, config: Config, tmp_path: Path
) -> None:
    machine.link_program()
    install(machine, kit, "--yes")
    before = tree(machine, *PLACES)
    other = out / "institutions" / "Cleveland"
    assert "is the kit of another institution" in refused(machine, other, "--yes")
    provision(FEDERATION, config, tmp_path / "others")
    stranger = tmp_path / "others" / "institutions" / "VA%20Long%20Beach"
    assert "ca.crt of another federation called heart" in refused(machine, stranger, "--yes")
    assert tree(machine, *PLACES) == before


def test_removed_it_leaves_what_cannot_be_made_again(machine: Machine, kit: Path) -> None:
    machine.link_program()
    install(machine, kit, "--yes")
    script = """
        cd "$1"; echo spent > ledger/everybody.ledger; mkdir state/trainer/audit state/trainer/sums
        echo event > state/trainer/audit/audit-00000001.jsonl; echo key > state/trainer/sums/key
        echo text > state/trainer/trainer.log; echo secret > state/runtime/secret"""
    machine.run("sh", "-c", script, "sh", HOME)
    kept = [f"{HOME}/{name}" for name in ("client.yaml", "node.key", "trainer.key", "ledger")]
    kept.append(f"{HOME}/state/trainer/audit")
    before = tree(machine, *kept)
    planned = install(machine, kit, "--uninstall", "--dry-run")
    assert machine.path(f"{HOME}/state/runtime/secret").exists()
    done = install(machine, kit, "--uninstall", "--yes")
    assert steps(done, "To be done:\n") == steps(planned, "To be done:\n")
    assert tree(machine, *kept) == before
    assert all(f"  {path}\n" in done for path in kept)
    left = machine.run(
        "find", "/etc", f"{HOME}/state", "-name", "*confide*", "-o", "-name", "*secret*"
    )
    assert [path for path in left.stdout.split() if HOME in path or "systemd" in path] == []
    assert machine.run("find", f"{HOME}/state", "-type", "f").stdout.split() == [
        f"{HOME}/state/trainer/audit/audit-00000001.jsonl"
    ]
    assert "nothing: all is as it should be." in install(machine, kit, "--uninstall", "--yes")
    # And again, with what was kept
    install(machine, kit, "--yes")
    assert tree(machine, *kept) == before


@pytest.mark.slow
def test_an_upgrade_that_fails_leaves_the_program_that_was(machine: Machine, kit: Path) -> None:
    wheelhouse = make_wheelhouse(kit / "wheelhouse", "1.0")
    install(machine, kit, "--yes")
    assert machine.run(PROGRAM, user="confide-trainer").stdout == "confide 1.0\n"
    assert "nothing: all is as it should be." in install(machine, kit, "--yes")
    make_wheelhouse(wheelhouse, "2.0")
    wheel = next((wheelhouse / "wheels").iterdir())
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:-1] + b"x")
    told = refused(machine, kit, "--yes")
    assert f"wheels/{wheel.name}: FAILED" in told
    assert "run this again" in told
    assert machine.run(PROGRAM).stdout == "confide 1.0\n"
    wheel.write_bytes(whole)
    install(machine, kit, "--yes")
    assert machine.run(PROGRAM, user="confide-trainer").stdout == "confide 2.0\n"
    # A way back: the program of the earlier wheelhouse is there still, and one before it is not
    make_wheelhouse(wheelhouse, "1.0")
    assert len(steps(install(machine, kit, "--yes"), "To be done:\n")) == 1
    assert machine.run(PROGRAM).stdout == "confide 1.0\n"
    make_wheelhouse(wheelhouse, "3.0")
    install(machine, kit, "--yes")
    programs = machine.path("/opt/confide").iterdir()
    assert len([it for it in programs if not it.is_symlink()]) == 2


@pytest.mark.parametrize("tool", ["systemd-sysusers", "chown", "mv"])
def test_what_broke_off_half_way_ends_well(machine: Machine, kit: Path, tool: str) -> None:
    machine.link_program()
    fault = machine.path(f"/usr/local/bin/{tool}")
    # The third call of it fails, as on a full disk
    fault.write_text(
        f'#!/bin/sh\necho >>/calls; [ "$(wc -l </calls)" != 3 ] && exec /usr/bin/{tool} "$@"\n'
        "echo no space left >&2; exit 1\n"
    )
    fault.chmod(0o755)
    if tool == "systemd-sysusers":  # which is called once
        machine.path("/calls").write_text("\n\n")
    told = refused(machine, kit, "--yes")
    assert "no space left" in told
    assert "that failed: " in told
    install(machine, kit, "--yes")
    fault.unlink()
    machine.path("/calls").unlink()
    assert "nothing: all is as it should be." in install(machine, kit, "--yes")
    half = machine.run("find", "/srv", "/etc", "/opt/confide", "-name", "*.new").stdout
    assert half == ""


def test_services_start_once_the_settings_are_filled_in(machine: Machine, kit: Path) -> None:
    machine.link_program()
    calls = machine.path("/calls")
    machine.run("mkdir", "-p", "/run/systemd/system")
    systemctl = machine.path("/usr/local/bin/systemctl")
    # As systemd answers: what was started is active
    systemctl.write_text(
        '#!/bin/sh\ncase $1 in is-*) grep -q "^enable --now $3" /calls ;;\n'
        '*) echo "$@" >>/calls ;; esac\n'
    )
    systemctl.chmod(0o755)
    calls.write_text("")
    assert "fill in each" in install(machine, kit, "--yes")
    assert calls.read_text() == "daemon-reload\n"
    theirs = machine.path(f"{HOME}/client.yaml")
    theirs.write_text(theirs.read_text().replace('"???"', "8"))
    calls.write_text("")
    install(machine, kit, "--yes")
    roles = ("trainer", "executor", "supernode")
    started = [f"enable --now confide-heart-{role}.service" for role in roles]
    assert calls.read_text().splitlines() == started
    assert "nothing: all is as it should be." in install(machine, kit, "--yes")
    unit = kit / "service" / "confide-heart-trainer.service"
    unit.write_text(unit.read_text().replace("RestartSec=5", "RestartSec=6"))
    install(machine, kit, "--yes")
    restarted = [f"restart confide-heart-{role}.service" for role in roles]
    assert calls.read_text().splitlines() == [*started, "daemon-reload", *restarted]
    (kit / "trainer.crt").write_text("renewed\n")
    install(machine, kit, "--yes")
    assert calls.read_text().splitlines()[-4:] == [restarted[-1], *restarted]


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_logs_are_rotated_as_their_users_and_audit_logs_are_not(
    machine: Machine, kit: Path
) -> None:
    machine.link_program()
    install(machine, kit, "--yes")
    script = """
        cd "$1"; for role in trainer executor supernode; do
            echo text > $role/$role.log; chown confide-$role $role/$role.log
        done; mkdir trainer/audit; echo event > trainer/audit/audit-00000001.jsonl"""
    machine.run("sh", "-c", script, "sh", f"{HOME}/state")
    machine.run("logrotate", "--force", "--state", "/state", "/etc/logrotate.d/confide-heart")
    found = machine.run("find", f"{HOME}/state", "-type", "f", "-printf", "%P %u %s\\n").stdout
    day = datetime.date.today().strftime("%Y%m%d")
    lines = {re.sub(r"(gz \S+) \d+$", r"\1", line) for line in found.splitlines()}
    assert lines == {
        "trainer/audit/audit-00000001.jsonl root 6",
        *(f"{role}/{role}.log confide-{role} 0" for role in ("trainer", "executor", "supernode")),
        *(
            f"{role}/{role}.log-{day}.gz confide-{role}"
            for role in ("trainer", "executor", "supernode")
        ),
    }


def test_without_a_program_nothing_is_begun(machine: Machine, kit: Path) -> None:
    before = tree(machine, *PLACES)
    told = refused(machine, kit, "--yes")
    assert "there is no wheelhouse beside this kit" in told
    assert tree(machine, *PLACES) == before
    make_wheelhouse(kit / "wheelhouse", "1.0")
    (kit / "wheelhouse" / "python-version").write_text("3.99")
    assert "are for Python 3.99" in refused(machine, kit, "--yes")


@pytest.mark.slow
@pytest.mark.skipif(not sys.base_prefix.startswith("/root/"), reason="Python is not in root's home")
def test_a_program_that_the_services_cannot_reach_is_told(machine: Machine, kit: Path) -> None:
    make_wheelhouse(kit / "wheelhouse", "1.0")
    machine.run("chmod", "o-x", "/root")
    told = refused(machine, kit, "--yes")
    assert "Permission denied" in told
    assert "make /opt/confide/" in told.rpartition("that failed: ")[2]
    assert not machine.path("/opt/confide/current").exists()


def test_a_wheelhouse_that_somebody_else_put_beside_the_kit_is_refused(
    machine: Machine, kit: Path
) -> None:
    wheelhouse = make_wheelhouse(kit.parent / "wheelhouse", "1.0")
    machine.run("chown", "nobody", str(wheelhouse))
    assert f"{wheelhouse} belongs to nobody, neither to root" in refused(machine, kit, "--yes")
    machine.run("chown", "root", str(wheelhouse))
    machine.run("chmod", "777", str(wheelhouse))
    assert f"{wheelhouse} can be written by everybody" in refused(machine, kit, "--yes")


def test_a_wheelhouse_is_of_whoever_signed_the_first(
    machine: Machine, kit: Path, tmp_path: Path
) -> None:
    machine.link_program()
    wheelhouse = make_wheelhouse(kit / "wheelhouse", "1.0")
    for name in ("release", "another"):
        make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]
        machine.run(*make, "-out", str(tmp_path / f"{name}.key"))
    sign(machine, wheelhouse, tmp_path / "release.key")
    told = install(machine, kit, "--dry-run")
    der = ["openssl", "pkey", "-in", str(tmp_path / "release.key"), "-pubout", "-outform", "DER"]
    digest = hashlib.sha256(subprocess.run(der, capture_output=True, check=True).stdout).hexdigest()
    assert f"signed the wheelhouse, SHA-256 {digest}: compare it by telephone" in told
    # As installed before, so that no environment is made here
    machine.run("install", "-D", str(wheelhouse / "release.pub"), f"{HOME}/release.pub")
    assert "remember the key" not in install(machine, kit, "--dry-run")
    sums = wheelhouse / "SHA256SUMS"
    whole = sums.read_text()
    sums.write_text(whole.replace("a", "b", 1))
    assert "is not what the key in release.pub signed" in refused(machine, kit, "--dry-run")
    sums.write_text(whole)
    sign(machine, wheelhouse, tmp_path / "another.key")
    assert "is not the key that signed what is installed" in refused(machine, kit, "--dry-run")
    (wheelhouse / "release.pub").unlink()
    assert "is not the key that signed what is installed" in refused(machine, kit, "--dry-run")


def test_a_kit_is_not_where_the_key_of_releases_comes_from(machine: Machine, kit: Path) -> None:
    machine.link_program()
    install(machine, kit, "--yes")
    known = machine.path(f"{HOME}/release.pub")
    known.write_text("compared by telephone\n")
    (kit / "release.pub").write_text("the coordinator's own\n")
    assert "release.pub" not in install(machine, kit, "--yes")
    assert known.read_text() == "compared by telephone\n"


def sign(machine: Machine, wheelhouse: Path, key: Path) -> None:
    sums = wheelhouse / "SHA256SUMS"
    words = ["openssl", "dgst", "-sha384", "-sign", str(key), "-out", f"{sums}.sig", str(sums)]
    machine.run(*words)
    public = ["openssl", "pkey", "-in", str(key), "-pubout", "-out"]
    machine.run(*public, str(wheelhouse / "release.pub"))


def test_what_a_kit_says_is_told_and_never_run(machine: Machine, kit: Path) -> None:
    machine.link_program()
    facts = kit / "service" / "install.conf"
    whole = facts.read_text()
    odd = 'O\'Neil "East" $(touch /tmp/run) `touch /tmp/run` 100% \\'
    facts.write_text(whole.replace("VA Long Beach", odd))
    assert f"{odd}, institution of the federation heart" in install(machine, kit, "--yes")
    assert "nothing: all is as it should be." in install(machine, kit, "--yes")
    assert not machine.path("/tmp/run").exists()
    for other in ("/srv/confide/../../etc", "/etc", "/srv/confide/a b", "/srv/confide/$(id)"):
        facts.write_text(whole.replace("home=/srv/confide/heart", f"home={other}"))
        assert "is not as it was made" in refused(machine, kit, "--dry-run")


def in_kit(machine: Machine, kit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script as its people do: from the kit's own folder."""
    script = 'cd "$1" && shift && sh install.sh "$@"'
    return machine.run("sh", "-c", script, "sh", str(kit), *words, check=False)


def test_a_dry_run_runs_nothing_of_a_kit(machine: Machine, kit: Path) -> None:
    wheelhouse, ran = make_wheelhouse(kit / "wheelhouse", "1.0"), kit / "ran"
    planted = kit / "python" / "planted"
    planted.parent.mkdir()
    planted.write_text(f"#!/bin/sh\ntouch '{ran.name}' /ran; echo 3.11\n")
    planted.chmod(0o755)
    for version in ("/planted", "$(touch /ran)", "3.11\n/planted", ""):
        (wheelhouse / "python-version").write_text(version)
        assert "is no version of Python" in in_kit(machine, kit, "--dry-run").stderr, version
    assert not ran.exists()
    assert not machine.path("/ran").exists()


@pytest.mark.slow
def test_no_module_of_a_kit_is_imported(machine: Machine, kit: Path) -> None:
    make_wheelhouse(kit / "wheelhouse", "1.0")
    names = ("venv", "pip", "ensurepip", "shutil", "os", "site", "sitecustomize", "runpy", "types")
    for name in names:
        (kit / f"{name}.py").write_text(
            f"open('/ran', 'a').write('{name} ')\nraise SystemExit(0)\n"
        )
    done = in_kit(machine, kit, "--yes")
    assert not machine.path("/ran").exists()
    assert done.returncode == 0, done.stderr
    assert machine.run(PROGRAM).stdout == "confide 1.0\n"


ROOTS = {
    "logrotate.conf": "/srv/confide/heart/state/*.log {\npostrotate\ntouch /ran\nendscript\n}",
    "sysusers.conf": 'u confide-spy 0 "x" / /bin/sh',
    "tmpfiles.conf": "f+ /etc/cron.d/spy 0644 root root - * * * * * root touch /ran",
    "settings.yaml": "policy.max_epsilon: 100 # more",
    "install.conf": "own=../../../etc/passwd",
    "confide-heart-trainer.service": "ExecStartPre=+/bin/touch /ran",
}
"""What makes root do something, by the file of a kit that would be installed with it."""


@pytest.mark.parametrize("name", ROOTS)
def test_what_a_kit_adds_to_its_files_is_refused(machine: Machine, kit: Path, name: str) -> None:
    machine.link_program()
    before = tree(machine, *PLACES)
    file = kit / "service" / name
    file.write_text(f"{file.read_text()}{ROOTS[name]}\n")
    for words in (["--dry-run"], ["--yes"], ["--uninstall", "--yes"]):
        told = refused(machine, kit, *words)
        assert f"service/{name}" in told
    assert tree(machine, *PLACES) == before


@pytest.mark.parametrize(
    "line",
    [
        "d /srv/confide/heart/../../../etc 0777 root root",
        "d /srv/confide/heart/state 4755 root root",
        "z /etc/shadow 0644 root confide",
        "z /srv/confide/heart/client.yaml 0666 root confide",
        "d /srv/confide/heart/ledger 0700 nobody nogroup",
        "D /srv/confide/heart/ledger 0700 confide-trainer confide-trainer 1d",
    ],
)
def test_folders_of_others_are_no_kits_to_make(machine: Machine, kit: Path, line: str) -> None:
    file = kit / "service" / "tmpfiles.conf"
    file.write_text(f"{file.read_text()}{line}\n")
    assert "service/tmpfiles.conf" in refused(machine, kit, "--dry-run")


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("User=confide-trainer", "User=root"),
        ("NoNewPrivileges=yes", "NoNewPrivileges=no"),
        ("PrivateNetwork=yes", "PrivateNetwork=yes\nBindPaths=/etc"),
        ("--only trainer", "--only trainer policy.max_epsilon=100"),
        ("bin/confide client", "bin/python -c pass; client"),
        ("ReadWritePaths=/srv/confide/heart/ledger", "ReadWritePaths=/etc"),
        ("Description=confide trainer", "Description=confide \\\nExecStartPre=/bin/touch /ran"),
        ("trainer.key.passphrase:confide-heart-", "trainer.key.passphrase:other-"),
        ("\n\n", "\n\0\n"),
    ],
)
def test_a_unit_that_is_another_than_provisions_is_refused(
    machine: Machine, kit: Path, was: str, now: str
) -> None:
    unit = kit / "service" / "confide-heart-trainer.service"
    text = unit.read_text()
    assert was in text
    unit.write_text(text.replace(was, now, 1))
    assert "service/confide-heart-trainer.service" in refused(machine, kit, "--dry-run")


def test_a_unit_of_the_machines_own_is_not_replaced(machine: Machine, kit: Path) -> None:
    unit = kit / "service" / "confide-heart-trainer.service"
    shutil.copy(unit, unit.with_name("ssh.service"))
    assert "service/ssh.service" in refused(machine, kit, "--dry-run")


@pytest.mark.parametrize(
    "name", ["client.yaml", "service/tmpfiles.conf", "service/confide-heart-trainer.service"]
)
def test_a_link_in_a_kit_shows_nobody_what_root_reads(
    machine: Machine, kit: Path, name: str
) -> None:
    machine.link_program()
    shutil.copy(kit / name, kit / "linked")
    (kit / name).unlink()
    (kit / name).symlink_to(kit / "linked")
    assert f"{name} is a link" in refused(machine, kit, "--dry-run")


@pytest.mark.parametrize("name", ["a b.crt", "*.crt", "x\ny.crt", "\x1b[8m.key", "é.pub"])
def test_a_file_of_an_odd_name_is_refused(machine: Machine, kit: Path, name: str) -> None:
    machine.link_program()
    (kit / name).write_text("x")
    told = refused(machine, kit, "--dry-run")
    assert "a name that confide provision gives to none" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("odd", ["\x1b[8m", "\r", "\x9b", "\x07"])
def test_no_name_hides_what_is_told(machine: Machine, kit: Path, odd: str) -> None:
    facts = kit / "service" / "install.conf"
    facts.write_text(facts.read_text().replace("VA Long Beach", f"VA{odd}"))
    told = refused(machine, kit, "--dry-run")
    assert "is not as it was made" in told
    assert odd not in told


def test_help_and_wrong_words(machine: Machine, kit: Path) -> None:
    assert "sh install.sh --dry-run" in install(machine, kit, "--help")
    assert "unknown option --force" in refused(machine, kit, "--force")
