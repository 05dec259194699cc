"""What a kit takes part in masked sums with: its own key, its policy, its ledger."""

import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from small_kit import NAME, PLAIN, PRIVATE, ask, make_kit

from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.kit_ledger import open_ledger
from confide.client.deployment.kit_sums import taking_part
from confide.client.deployment.served import DeployedInstitution
from confide.client.ledger.sums import LedgerSums
from confide.client.secure_sums.memory import SumsInFolder, run_key_in
from confide.client.secure_sums.taking_part import TakingPart
from confide.client.training.deadline import Deadline
from confide.errors import UnreadableError
from confide.protocol.masked_sums import MaskedSums, SumQuestion
from confide.protocol.plan import TrainingPlan
from confide.secure_aggregation.adverts import Advert, Identity, advertise
from confide.security import certificates, ec_keys
from confide.security.revocations import FILE as REVOKED
from confide.server.provisioning.files import Places
from confide.server.provisioning.provision import provision, read_federation
from confide.server.provisioning.revoke import revoke
from confide.storage.files import write_text

MASKED = MaskedSums(max_value=1024.0)
OF_THE_TRAINER = ("ca.crt", "trainer.crt", "trainer.key")


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provision three kits, one of them for the small records."""
    folder = tmp_path_factory.mktemp("provisioned")
    text = (
        f"name: t\nhosts: [127.0.0.1]\ninstitutions: [{NAME}, north, south]\nconfig:"
        " [experiment=heart_disease]\n"
    )
    (folder / "fed.yaml").write_text(text)
    provision(*read_federation(folder / "fed.yaml"), folder / "out")
    return folder / "out" / "institutions"


@pytest.fixture
def kit(provisioned: Path, tmp_path: Path) -> InstitutionKit:
    made = make_kit(tmp_path / "kit")
    for file in OF_THE_TRAINER:
        shutil.copy(provisioned / NAME / file, made.folder)
    return made


def part_of(kit: InstitutionKit, *overrides: str) -> TakingPart:
    again = load_kit(kit.folder, overrides)
    part = taking_part(again, open_ledger(again))
    assert part is not None
    return part


def test_a_kit_signs_for_its_institution_with_its_own_rules(kit: InstitutionKit) -> None:
    peers = [f"SHA256:{letter * 43}" for letter in "ab"]
    part = part_of(kit, "policy.secure.min_survivors=4", f"policy.secure.peers={peers}")
    assert part.rules.min_survivors == 4
    assert part.rules.peers == frozenset(peers)
    assert certificates.common_name(part.identity.certificate.subject) == NAME
    assert certificates.is_issued_by(part.identity.certificate, part.authority)


@pytest.mark.parametrize("gone", OF_THE_TRAINER)
def test_a_kit_that_lacks_a_file_takes_part_in_no_sum(gone: str, kit: InstitutionKit) -> None:
    (kit.folder / gone).unlink()
    assert taking_part(kit, open_ledger(kit)) is None
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("query", ask(replace(PRIVATE, sums=MASKED))).refusal == "sum_keys"
    assert door.handle("query", ask(PRIVATE)).refusal is None


def test_enrolment_brings_the_kits_signed_key(kit: InstitutionKit) -> None:
    reply = DeployedInstitution(kit, deadline=Deadline()).handle(
        "query", ask(replace(PRIVATE, sums=MASKED))
    )
    assert reply.refusal is None
    again = DeployedInstitution(kit, deadline=Deadline()).handle(
        "query", ask(replace(PRIVATE, sums=MASKED))
    )
    assert reply.advert == again.advert != ""


def test_plans_without_masks_are_refused_where_the_kit_requires_them(kit: InstitutionKit) -> None:
    strict = load_kit(kit.folder, ["policy.secure.required=true"])
    door = DeployedInstitution(strict, deadline=Deadline())
    assert door.handle("query", ask(PRIVATE)).refusal == "sum_required"
    assert door.handle("query", ask(replace(PRIVATE, sums=MASKED))).refusal is None


@pytest.mark.parametrize("plan", [PRIVATE, PLAIN], ids=["private", "plain"])
def test_a_kit_puts_its_update_into_a_sum_and_says_so_again_after_a_restart(
    plan: TrainingPlan, provisioned: Path, tmp_path: Path
) -> None:
    plan = replace(plan, sums=MASKED)
    policy = {"budget": {"epsilon": 20.0}} if plan.private else {"required_unit": "none"}
    kit = make_kit(tmp_path / "kit", policy={**policy, "min_records": 50})
    for file in OF_THE_TRAINER:
        shutil.copy(provisioned / NAME / file, kit.folder)
    own = DeployedInstitution(kit, deadline=Deadline()).handle("query", ask(plan)).advert
    others = [advert_of(provisioned / name, plan.job) for name in ("north", "south")]
    question = SumQuestion(cohort=(*others, own), threshold=2)
    replies = [
        DeployedInstitution(kit, deadline=Deadline()).handle(
            "train", replace(ask(plan), sum=question)
        )
        for _ in range(2)
    ]
    assert replies[0].refusal is None
    assert replies[0].sum is not None
    assert replies[1].sum == replies[0].sum
    assert replies[1].arrays == replies[0].arrays
    memory = part_of(kit).memory_fn(plan.job)
    assert isinstance(memory, LedgerSums if plan.private else SumsInFolder)
    assert len(list(memory.all())) == 1


def test_a_renewed_certificate_is_signed_with_and_nothing_is_restarted(
    kit: InstitutionKit, provisioned: Path
) -> None:
    plan = replace(PRIVATE, sums=MASKED)
    door = DeployedInstitution(kit, deadline=Deadline())
    before = Advert.from_text(door.handle("query", ask(plan)).advert)
    authority = provisioned.parent / "authority"
    issued = certificates.issue_trainer_certificate(
        ec_keys.read_private_key(kit.folder / "trainer.key").public_key(),
        NAME,
        authority=(
            certificates.read_certificate(authority / "ca.crt"),
            ec_keys.read_private_key(authority / "ca.key"),
        ),
        days=99,
    )
    write_text(kit.folder / "trainer.crt", certificates.certificate_pem(issued))
    after = Advert.from_text(door.handle("query", ask(plan)).advert)
    assert after.certificate != before.certificate
    assert after.stated == before.stated

    shutil.copy(provisioned / "north" / "trainer.crt", kit.folder)
    assert door.handle("query", ask(plan)).refusal == "storage"
    write_text(kit.folder / "trainer.crt", certificates.certificate_pem(issued))
    assert door.handle("query", ask(plan)).refusal is None


def test_a_sum_with_a_revoked_key_is_refused_once_the_list_is_in_the_kit(
    kit: InstitutionKit, provisioned: Path, tmp_path: Path
) -> None:
    plan = replace(PRIVATE, sums=MASKED)
    door = DeployedInstitution(kit, deadline=Deadline())
    own = door.handle("query", ask(plan)).advert
    others = [advert_of(provisioned / name, plan.job) for name in ("north", "south")]
    question = replace(ask(plan), sum=SumQuestion(cohort=(*others, own), threshold=2))

    out = Path(shutil.copytree(provisioned.parent, tmp_path / "out"))
    federation, _ = read_federation(provisioned.parent.parent / "fed.yaml")
    revoke(federation, Places(out), ["south"])
    listed = Path(shutil.copy(out / "institutions" / "north" / REVOKED, kit.folder))
    assert door.handle("train", question).refusal == "sum_revoked"
    assert door.handle("query", ask(PRIVATE)).refusal is None

    # By its word alone a coordinator puts nobody out of a sum, and a list that is none stops sums
    listed.write_text(listed.read_text().replace("south", "north"))
    assert door.handle("train", question).refusal == "storage"
    with pytest.raises(UnreadableError, match="not signed by the federation's authority"):
        DeployedInstitution(kit, deadline=Deadline())
    listed.unlink()
    assert door.handle("train", question).refusal != "sum_revoked"


def advert_of(kit: Path, job: str) -> str:
    """Enrol another kit's institution."""
    identity = Identity(
        certificate=certificates.read_certificate(kit / "trainer.crt"),
        key=ec_keys.read_private_key(kit / "trainer.key"),
    )
    return advertise(identity, job, run_key_in(kit, job), num_examples=100).to_text()


# --- keys


def test_a_key_that_others_may_read_is_refused(kit: InstitutionKit) -> None:
    (kit.folder / "trainer.key").chmod(0o640)
    with pytest.raises(UnreadableError, match=r"mode 0640: others may read it.*chmod 600"):
        DeployedInstitution(kit, deadline=Deadline())


def test_a_key_of_another_certificate_is_refused(kit: InstitutionKit, provisioned: Path) -> None:
    shutil.copy(provisioned / "north" / "trainer.key", kit.folder)
    with pytest.raises(UnreadableError, match=rf"is of {NAME}, and not of {NAME} with the key"):
        taking_part(kit, open_ledger(kit))


def test_a_certificate_of_another_institution_is_refused(
    kit: InstitutionKit, provisioned: Path
) -> None:
    for file in OF_THE_TRAINER:
        shutil.copy(provisioned / "north" / file, kit.folder)
    with pytest.raises(UnreadableError, match=rf"is of north, and not of {NAME}"):
        taking_part(kit, open_ledger(kit))


def test_a_certificate_of_another_federation_is_refused(kit: InstitutionKit) -> None:
    other = certificates.make_authority("other", ec_keys.make_key())
    (kit.folder / "ca.crt").write_text(certificates.certificate_pem(other))
    with pytest.raises(UnreadableError, match=r"is not of the authority of"):
        taking_part(kit, open_ledger(kit))


def test_secrets_are_made_for_their_owner_alone(provisioned: Path, kit: InstitutionKit) -> None:
    """With three users the trainer's: what the SuperNode's user must not read."""
    for name in (NAME, "north", "south"):
        assert stat.S_IMODE((provisioned / name / "trainer.key").stat().st_mode) == 0o600
        page = (provisioned / name / "README.md").read_text()
        assert "`trainer.key` to the trainer's" in page
    part_of(kit).run_key_fn(PRIVATE.job)
    made = list((kit.own / "sums").rglob("*.key"))
    assert made
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in made)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (kit.own, kit.own / "sums"))


def test_the_key_of_a_job_stays_and_is_that_jobs_alone(kit: InstitutionKit) -> None:
    keys = [part_of(kit).run_key_fn(job).private_bytes_raw() for job in ("a", "a", "b")]
    assert keys[0] == keys[1] != keys[2]


# --- memory


def test_sums_are_remembered_where_rounds_are_counted(kit: InstitutionKit) -> None:
    assert isinstance(part_of(kit).memory_fn("trial"), LedgerSums)
