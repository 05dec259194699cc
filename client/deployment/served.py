"""A deployed institution: which plans it serves, with which backbone and records.

What answers a plan's requests is :class:`~confide.client.institution.Institution`.

A plan is held against the policy and against the task that the kit pins before a backbone or a
record is touched. A pretrained backbone is looked for among the folders that the institution named,
by content hash: no path of a plan is ever opened. What a plan needs is loaded once and stays for
the rounds that follow.
"""

import dataclasses
import json
import logging
import os

from confide.client.algorithm_state import ClientStates
from confide.client.assembly import Assembly, institution_keys, make_trainer
from confide.client.deployment.job_files import is_stopped, keep_plan
from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.kit_ledger import ledger_file, open_ledger
from confide.client.deployment.kit_sums import sums_files, taking_part
from confide.client.drift.at_training import ReferenceMaker
from confide.client.evaluation_quota import Evaluations
from confide.client.institution import Institution, refusal, with_head
from confide.client.ledger.folder import Members, known_by
from confide.client.ledger.persistent import PersistentLedger
from confide.client.policy import Policy
from confide.client.records.checked import load_checked_records
from confide.client.records.encoded import encode_institution
from confide.client.records.judged import sampled_token_notes
from confide.client.safeguards import Safeguards, ScoredFn
from confide.client.training.deadline import Deadline
from confide.client.training.private.custom_checks import check_encoding
from confide.config.models.backbone import Weights
from confide.errors import DeniedError, ModelError, ProtocolError
from confide.models.backbones import content_hash, find_backbone
from confide.models.compute import make_compute
from confide.models.networks import trainable
from confide.models.workload import Workload, build_workload, shapes_without_weights
from confide.privacy.keys import seeded_secret, split_key
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.messages import OLD, Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.security.chain import Event
from confide.storage.files import make_private_folder, write_secret

log = logging.getLogger(__name__)

SPLIT_KEY = "splits.key"


class DeployedInstitution:
    """An institution that serves whatever plans its kit allows.

    Args:
        kit: its configuration, records and ledger.
        deadline: checked between two steps of training.

    Raises:
        ConfideError: if the ledger is not sound, or the trainer's key not its own.
    """

    def __init__(self, kit: InstitutionKit, *, deadline: Deadline) -> None:
        self._kit = kit
        self._deadline = deadline
        self._policy = Policy(kit.config.policy)
        self._ledger = open_ledger(kit)
        self._sums_of = sums_files(kit)
        self._sums = taking_part(kit, self._ledger)
        self._compute = make_compute(kit.config.trainer)
        self._served: tuple[str, Institution] | None = None

    @property
    def name(self) -> str:
        """The name that the coordinator provisioned it under."""
        return self._kit.config.name

    @property
    def ledger_events(self) -> list[Event]:
        """Events of its ledger, oldest first; none where nothing outlives the process."""
        return self._ledger.events if isinstance(self._ledger, PersistentLedger) else []

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer one request; never raises for what a coordinator can cause."""
        try:
            institution = self._institution(request.plan)
        except Exception as error:
            return with_head(refusal(self.name, kind, error), self._ledger, request.plan)
        return institution.handle(kind, request)

    def _institution(self, text: str) -> Institution:
        """Return the institution that serves a plan, loading what it needs."""
        plan = TrainingPlan.from_json(text)
        if is_stopped(self._kit, plan.job):
            raise DeniedError(
                f"Job {plan.job} was stopped here; `confide client approve` lets it go on.",
                code=Refusal.STOPPED,
            )
        keep_plan(self._kit, plan.job, text)  # also a denied one: people want to see why
        self._take_up_renewed()
        self._policy.check_before_loading(plan)
        # Whether a task's columns fit the records is a fact about each of them. Where records are
        # protected it is a fact about one task alone, whoever asks
        pinned = self._kit.task
        if plan.task != pinned and (pinned is not None or self._ledger.keeps_account):
            raise ProtocolError(
                "The plan's task is not the one in client.yaml.", code=Refusal.TASK_NOT_SERVED
            )
        if plan.releases and not plan.private and pinned is None:
            # Under another schema the same cells would begin elsewhere, and their differences tell
            raise ProtocolError(
                "Exact figures of columns leave under the one schema that client.yaml names; write"
                " the task there.",
                code=Refusal.TASK_NOT_SERVED,
            )
        if plan.private and not self._ledger.keeps_account:
            raise DeniedError(
                "policy.budget.epsilon is not set, so nothing private can be accounted for.",
                code=Refusal.NO_BUDGET,
            )
        key = self._key(plan)
        if self._served is None or self._served[0] != key:
            self._served = None  # frees its memory first
            self._served = key, self._open(plan)
        return self._served[1]

    def _take_up_renewed(self) -> None:
        """Sign with the certificate that is there now, if it is another than before."""
        files = sums_files(self._kit)
        if files != self._sums_of:
            self._sums = taking_part(self._kit, self._ledger)
            self._sums_of, self._served = files, None
            log.info("trainer.crt, its key or ca.crt is another than before, and is used from now.")

    def _reproducible(self, plan: TrainingPlan) -> bool:
        return self._kit.config.policy.allow_reproducible_noise is True and plan.seed is not None

    def _key(self, plan: TrainingPlan) -> str:
        """Return equal texts for plans that need the same model and records loaded."""
        parts = [dataclasses.asdict(part) for part in (plan.task, plan.backbone, plan.tuning)]
        seed = plan.seed if self._reproducible(plan) else None
        edges = plan.edges.columns if plan.edges else {}
        encoding = [plan.releases, edges, plan.private]
        return json.dumps([*parts, plan.backbone_sha256, plan.privacy.unit, seed, *encoding])

    def _open(self, plan: TrainingPlan) -> Institution:
        secret: bytes | None = None
        if plan.seed is not None and self._reproducible(plan):
            log.warning(
                "Job %s: noise derives from the plan's seed; the guarantee is void for whoever"
                " knows it.",
                plan.job,
            )
            secret = seeded_secret(plan.seed)
        workload = self._workload(plan)
        shapes = {name: tuple(p.shape) for name, p in trainable(workload.model).items()}
        self._policy.check_size(
            shapes, plan.sums
        )  # before records are encoded, which may take long
        data = self._kit.data
        checked = load_checked_records(data, plan.task)
        for sentence in checked.tally.sentences():
            log.warning("%s", sentence)
        records = checked.records
        key = split_key(secret, self.name) if secret else own_split_key(self._kit)
        encoded, units = encode_institution(
            self.name,
            records,
            data,
            workload=workload,
            key=key,
            told_apart=plan.task.told_apart,
        )
        for note in sampled_token_notes(records, plan.task, workload.task):
            log.warning("%s", note)
        flatters = plan.task.unit_note(plan.privacy.unit)
        if flatters:
            log.warning("%s", flatters)
        if plan.private:
            check_encoding(workload, records)
        if isinstance(self._ledger, PersistentLedger):
            known = known_by(
                id_column=data.id_column,
                group_column=data.group_column,
                content=workload.task.content_columns(),
            )
            members = Members(ids=units, known_by=known)
            self._ledger.know_members(members, anchors=self._kit.anchors)
        if encoded.apart or encoded.old is not None:
            log.info(
                "%d records are old and for testing alone, %d more are left out (data.old_before,"
                " data.until).",
                len(encoded.split(OLD)),
                encoded.apart,
            )
        trainer = make_trainer(workload, plan, self._deadline.check)
        scored_fn = None
        if self._kit.config.drift_references and not plan.releases:
            scored_fn = ReferenceMaker(self._kit, records, plan).make
        safeguards = self._safeguards(secret, scored_fn)
        return Assembly(trainer, plan).institution(self.name, encoded, safeguards)

    def _safeguards(self, secret: bytes | None, scored_fn: ScoredFn | None) -> Safeguards:
        config = self._kit.config
        return Safeguards(
            policy=self._policy,
            ledger=self._ledger,
            key_fn=None if secret is None else institution_keys(secret, self.name),
            reproducible=secret is not None,
            # The institution's own word: no plan can say that records are public
            by_round=secret is not None and self._kit.data.is_public,
            states=ClientStates(self._kit.own / "rounds", kept=config.kept_replies),
            # Of the population, as the ledger that it lies beside.
            evaluations=Evaluations(
                self._kit.ledger.with_name(f"{self._kit.ledger.name}.scores"),
                most=config.policy.max_evaluations,
            ),
            sums=self._sums,
            scored_fn=scored_fn,
        )

    def _workload(self, plan: TrainingPlan) -> Workload:
        backbone, own = plan.backbone, self._policy.config.tasks
        if backbone.pretrained is not None:
            there = known_backbones(self._kit)
            name = there.get(str(plan.backbone_sha256))
            if name is None:
                known = [f"{name} ({digest[:12]})" for digest, name in there.items()]
                raise ProtocolError(
                    f"The plan's backbone {backbone.pretrained.name} has content hash"
                    f" {plan.backbone_sha256}; backbones here: {', '.join(known) or 'none'}. Bring"
                    " its folder and name it in client.yaml under backbones.",
                    code=Refusal.BACKBONE_NOT_HERE,
                )
            # Its weights come from a folder that the institution named, not from the plan's name.
            backbone = backbone.pinned(plan.backbone_sha256, folder=name)
        # Before its memory is asked for.
        self._policy.check_size(
            shapes_without_weights(plan.encoded_task, backbone, custom_tasks=own), plan.sums
        )
        return build_workload(
            plan.encoded_task,
            backbone,
            plan.tuning,
            compute=self._compute,
            seed=0,
            custom_tasks=own,
        )


def known_backbones(kit: InstitutionKit) -> dict[str, str]:
    """Return the backbones that an institution has: content hash -> folder.

    Raises:
        ModelError: naming one that cannot be used.
    """
    found = {}
    for reference in kit.config.backbones:
        local = str(kit.path(reference)) if kit.path(reference).is_dir() else reference
        folder = find_backbone(Weights(name=local))
        found[content_hash(folder)] = str(folder)
    return found


def own_split_key(kit: InstitutionKit) -> bytes:
    """Return the institution's own key of splits, made at its first use.

    It lies beside the ledger, which is backed up: without it units would move between the splits,
    and records that earlier runs trained on would be scored as if no model had seen them.

    Raises:
        ModelError: if it is damaged, or is gone though training took place with it.
    """
    path = kit.ledger.parent / SPLIT_KEY
    make_private_folder(path.parent)
    if not path.exists():
        if kit.ledger.exists() and any(p.runs for p in ledger_file(kit).state.populations.values()):
            raise ModelError(
                f"{path} is gone, which says who is trained on and who is tested on; restore it"
                " from a backup."
            )
        write_secret(path, os.urandom(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ModelError(
            f"{path} holds {len(key)} bytes, expected {KEY_BYTES}; restore it from a backup."
        )
    return key


__all__ = [
    "SPLIT_KEY",
    "DeployedInstitution",
    "known_backbones",
    "open_ledger",
    "own_split_key",
]
