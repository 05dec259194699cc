"""``confide doctor`` of an institution: checks its kit, its records and this machine.

Nothing is spent, trained or sent; the coordinator sees one request without a key. The ledger is
read and not changed.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.client.commands.key_checks import node_certificate, node_key, revoked, trainer_key
from confide.client.deployment.kit import InstitutionKit, read_kit
from confide.deployment.checks import (
    Finding,
    authority,
    disk,
    gather,
    memory,
    ok,
    private_folder,
    releases,
    server_authority,
    show,
)
from confide.deployment.reachability import check_reachable
from confide.errors import ConfideError, ConfigError, DeniedError
from confide.security.server_chain import FILE as SERVER_CA

if TYPE_CHECKING:
    from confide.client.records.report import CountTokens
    from confide.tasks.tokens import TokenCounts

# Linux takes 108 bytes for the path of a socket, its final null byte included
_LONGEST_SOCKET = 107
# What computes in bfloat16, as torch names it.
_HALF_PRECISION = ("amx_bf16", "avx512_bf16")
_NEW_ROOT = "ask the coordinator for a new one; `confide provision` writes it into the kit."
_RECORDS_ADVICE = (
    "`confide data check` shows them in full; correct the records, or data.* in client.yaml."
)


def examine(folder: Path, overrides: Sequence[str], *, as_json: bool) -> int:
    """Print the findings about a kit.

    Returns:
        The exit status.
    """
    return show(diagnose(folder, overrides), as_json=as_json)


def diagnose(folder: Path, overrides: Sequence[str] = ()) -> list[Finding]:
    """Check a kit, its records and this machine."""
    # Checks import torch, pandas and Flower themselves: mistakes in client.yaml are shown without
    # waiting for these
    try:
        kit, problems = read_kit(folder, overrides)
    except ConfigError as error:
        return [*_mistakes(error.problems), *gather(("versions", releases))]
    if problems:
        return [*_mistakes(problems), *_outside(kit)]
    readable = ok("client.yaml", f"{kit.config.name}, coordinator {kit.config.coordinator.address}")
    inside = gather(
        ("records", lambda: _records(kit)),
        ("backbones", lambda: _backbones(kit)),
        ("policy", lambda: _policy(kit)),
        ("plan", lambda: _plan(kit)),
        ("ledger", lambda: _ledger(kit)),
    )
    return [readable, *_outside(kit), *inside]


def _mistakes(problems: Sequence[str]) -> list[Finding]:
    return [
        Finding("client.yaml", "error", problem, "correct client.yaml.") for problem in problems
    ]


def _outside(kit: InstitutionKit) -> list[Finding]:
    """Check keys, coordinator and machine, which is possible before a kit is filled in."""
    coordinator = kit.config.coordinator
    ca = kit.path(coordinator.ca)
    files = kit.path(coordinator.certificate), kit.path(coordinator.key)
    shown = files if all(path.is_file() for path in files) else None
    is_address = not any(coordinator.problems()) and coordinator.address
    return gather(
        ("versions", releases),
        ("ca.crt", lambda: authority(ca, "ask the coordinator for a new federation's kit.")),
        ("node.key", lambda: node_key(kit)),
        ("trainer.key", lambda: trainer_key(kit)),
        ("revoked", lambda: revoked(kit)),
        ("node.crt", lambda: node_certificate(kit)),
        (
            SERVER_CA,
            lambda: () if kit.server_ca == ca else server_authority(kit.server_ca, _NEW_ROOT),
        ),
        (
            "reach",
            lambda: (
                check_reachable(coordinator.address, kit.server_ca, shown) if is_address else ()
            ),
        ),
        ("supernode", lambda: _supernode(kit)),
        ("folders", lambda: _folders(kit)),
        ("socket", lambda: _socket(kit)),
        ("disk", lambda: disk(kit.state, kit.ledger.parent)),
        ("memory", memory),
        ("device", lambda: _device(kit)),
    )


def _supernode(kit: InstitutionKit) -> Iterator[Finding]:
    """Report what the log of this kit's last SuperNode says."""
    from confide.client.deployment.supernode_log import supernode_told

    for told in supernode_told(kit):
        if told.runs and told.why is None:
            yield ok("supernode", "runs")
        elif told.runs or told.was_refused:
            yield Finding(
                "supernode",
                "warning",
                f"{'now' if told.runs else 'the last time'}: {told.why}",
                "see the findings above.",
            )


def _records(kit: InstitutionKit) -> Iterator[Finding]:
    from confide.client.records.report import check_records
    from confide.config.run import Config

    if kit.task is None:
        yield Finding(
            "records",
            "warning",
            "no task is set, so that records cannot be checked",
            "set task in client.yaml.",
        )
        return
    config = Config(task=kit.task, data=kit.config.data.as_data())
    report = check_records(config, count_tokens=_token_counter(kit))
    for problem in report.problems:
        yield Finding("records", "error", problem, _RECORDS_ADVICE)
    for note in report.notes:
        yield Finding("records", "warning", note)
    if report.ready and report.source is not None:
        splits = ", ".join(f"about {count} for {name}" for name, count in report.splits.items())
        yield ok(
            "records", f"{report.source.records} records of {report.path} fit the task; {splits}"
        )
        yield from _counts(kit, report.splits.get("train", 0))


def _token_counter(kit: InstitutionKit) -> "CountTokens":
    """Return what counts tokens as the first backbone that the kit names does, if it can."""

    @functools.cache
    def loaded() -> Any:
        from confide.config.models.backbone import Weights
        from confide.models.backbones import find_backbone
        from confide.models.encoders.assets import folder_assets
        from confide.tasks.build import build_task

        assert kit.task is not None
        name = kit.config.backbones[0]
        local = str(kit.path(name)) if kit.path(name).is_dir() else name
        # As the task itself puts texts into tokens; nothing of one's own is imported for it
        schema = dataclasses.replace(kit.task, _target_=None, kwargs={})
        return build_task(schema, folder_assets(find_backbone(Weights(name=local))))

    def count(*columns: Sequence[str]) -> "TokenCounts | None":
        from confide.tasks.tokens import CountsTokens

        try:
            task = loaded()
            return task.count_tokens(*columns) if isinstance(task, CountsTokens) else None
        except (ConfideError, IndexError, OSError, ValueError):
            return None  # what is wrong with a backbone is a finding of its own

    return count


def _counts(kit: InstitutionKit, units: int) -> Iterator[Finding]:
    from confide.client.policy import Policy
    from confide.privacy.budget import suitable_delta, suits

    if kit.config.data.group_column is not None:
        return  # a group's share of records is not known before they are split
    for verdict in Policy(kit.config.policy).counts(units):
        if not verdict.holds:
            message = (
                f"policy.{verdict.rule}={verdict.allowed}: there are about {units} to train on"
            )
            yield Finding(
                "records",
                "error",
                message,
                "bring more records, or decide on another number in client.yaml.",
            )
    budget = kit.config.policy.budget
    if budget.epsilon is not None and not suits(budget.delta, units):
        yield Finding(
            "records",
            "error",
            f"policy.budget.delta={budget.delta:g} is not below 1/n = {1 / units:g} for about"
            f" {units} units to train on: one could be published outright",
            f"set policy.budget.delta={suitable_delta(units):g} in client.yaml.",
        )


def _backbones(kit: InstitutionKit) -> Iterator[Finding]:
    from confide.config.models.backbone import Weights
    from confide.config.models.table import without_weights
    from confide.config.tasks.table import TASKS
    from confide.models.backbones import content_hash, find_backbone

    wrong = functools.partial(Finding, "backbones", "error")
    listed = kit.config.policy.backbones
    for name in kit.config.backbones:
        # Relative to the kit, as when it is served; anything else is a package's or a hub's name
        local = str(kit.path(name)) if kit.path(name).is_dir() else name
        try:
            digest = content_hash(find_backbone(Weights(name=local)))
        except (ConfideError, OSError) as error:
            yield wrong(
                f"{name}: {error}", "bring its folder, or correct backbones in client.yaml."
            )
            continue
        found = f"{name}: content hash {digest}"
        if digest in listed or "any" in listed:
            yield ok("backbones", f"{found}, allowed")
        else:
            fix = f"if it may be trained, add {digest} to policy.backbones."
            yield Finding("backbones", "warning", f"{found}, which policy.backbones lacks", fix)
    fits = () if kit.task is None else TASKS[kit.task.kind].backbones
    wanted = bool(fits) and not set(fits) & set(without_weights())
    if wanted and not kit.config.backbones:
        fix = "name a pretrained one's folder in client.yaml."
        yield wrong("none, and the task starts from a pretrained one", fix)


def _policy(kit: InstitutionKit) -> Iterator[Finding]:
    policy = kit.config.policy
    lifetime = (
        "none"
        if policy.budget.epsilon is None
        else f"{policy.budget.epsilon:g} at delta {policy.budget.delta:g}"
    )
    yield ok(
        "policy",
        f"lifetime epsilon {lifetime}; a run at most {policy.max_epsilon:g} at {policy.max_delta:g}"
        f" a {policy.required_unit}; approval {policy.approval}; hours {policy.hours or 'any'};"
        f" leaves: {', '.join(policy.metrics) or 'no metric'}; masked sums"
        f" {'required' if policy.secure.required else 'where a plan has them'}",
    )
    if policy.allow_reproducible_noise:
        message = (
            "policy.allow_reproducible_noise=true: noise follows from the plan's seed, and the"
            " guarantee is void"
        )
        yield Finding(
            "policy", "warning", message, "set it to false, unless the records are public."
        )


def _plan(kit: InstitutionKit) -> Iterator[Finding]:
    """Check the last plan that asked here against the policy."""
    from confide.client.commands.status import approved_plans, decision_on
    from confide.client.policy import Policy
    from confide.protocol.plan import TrainingPlan, plan_sha256

    plans = sorted((kit.own / "plans").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not plans:
        yield ok("plan", "none has asked here yet")
        return
    text = plans[-1].read_text()
    plan = TrainingPlan.from_json(text)
    job, warning = plan.job, functools.partial(Finding, "plan", "warning")
    denied = [rule for rule in Policy(kit.config.policy).plan_verdicts(plan) if not rule.holds]
    if kit.task is not None and plan.task != kit.task:
        message = f"job {job} has another task than client.yaml pins"
        yield warning(message, "agree on one with the coordinator.")
    for rule in denied:
        asked = f"asked {rule.asked}, allowed {rule.allowed}"
        message = f"job {job}: policy.{rule.rule} denies it: {asked}"
        yield warning(message, "leave it denied, or decide on another rule in client.yaml.")
    if denied:
        return  # whatever people decide, it stays denied
    is_approved = (job, plan_sha256(text)) in approved_plans(kit)
    decision = decision_on(kit, plan, is_approved=is_approved)
    if decision == "allowed":
        yield ok("plan", f"job {job}, the last that asked, is allowed")
    else:
        message = f"job {job}, the last that asked: {decision}"
        yield warning(message, f"confide client approve {job} KIT")


def _ledger(kit: InstitutionKit) -> Iterator[Finding]:
    from confide.client.deployment.kit_ledger import check_account, ledger_file

    check_account(kit)
    if not kit.ledger.exists():
        if kit.anchor.exists():
            message = f"{kit.ledger} is gone, and its anchor {kit.anchor} knows of it"
            yield Finding(
                "ledger", "error", message, "bring the ledger back; nothing is trained without it."
            )
        else:
            message = (
                f"{kit.ledger} will be made at the first start: a new ledger, in which nothing was"
                " ever spent; right only if these people were never trained on"
            )
            yield ok("ledger", message)
        return
    file = ledger_file(kit)
    number, digest = file.log.head
    if file.state.public_key not in (None, file.keys.public_key):
        yield Finding(
            "ledger", "error", f"{file.keys.path} is not its key", "bring the right one back."
        )
    yield ok("ledger", f"{kit.ledger} is sound, {number} events, head {number}:{digest[:12]}")
    heads = kit.path(kit.config.coordinator.heads)
    if not heads.is_file():
        message = f"{heads} is missing: no countersignature of the coordinator's is kept"
        fix = "ask the coordinator for it; `confide provision` writes it into the kit."
        yield Finding("ledger", "warning", message, fix)
    for population in file.state.populations.values():
        bound = population.budget.epsilon
        left = max(0.0, bound - population.committed)  # it may have been lowered since
        message = f"{population.name}: epsilon {left:.2f} of {bound:g} left"
        fix = "let the institution's people decide on a larger one: `confide ledger budget`."
        yield ok("budget", message) if left > 0 else Finding("budget", "warning", message, fix)
        try:  # as the next run will
            population.check_delta(min(population.budget.delta, kit.config.policy.budget.delta))
        except DeniedError as error:
            yield Finding("budget", "error", str(error))


def _folders(kit: InstitutionKit) -> Iterator[Finding]:
    config = kit.config
    shared = config.runtime_group is not None or config.socket_group is not None
    yield from private_folder("folders", kit.state, group_may_enter=shared)
    for folder in dict.fromkeys((kit.ledger.parent, kit.anchor.parent)):
        yield from private_folder("folders", folder)


def _socket(kit: InstitutionKit) -> Iterator[Finding]:
    # Bytes and not characters: the system's limit is on the encoded path
    size = len(str(kit.socket).encode())
    if size > _LONGEST_SOCKET:
        message = (
            f"{kit.socket} has {size} bytes, and the system takes {_LONGEST_SOCKET} for a socket"
        )
        yield Finding("socket", "error", message, "set state in client.yaml to a shorter path.")
    else:
        yield ok("socket", f"{size} of {_LONGEST_SOCKET} bytes")


def _device(kit: InstitutionKit) -> Iterator[Finding]:
    import torch

    asked, seen = kit.config.trainer.device, torch.cuda.is_available()
    if seen:
        yield ok("device", f"trainer.device={asked}; GPU {torch.cuda.get_device_name()}")
    elif asked == "cuda":
        yield Finding(
            "device",
            "error",
            "trainer.device=cuda, and torch sees no GPU",
            "fix the driver, or set trainer.device=auto.",
        )
    else:
        yield ok("device", f"trainer.device={asked}; torch sees no GPU of NVIDIA's")
    if kit.config.trainer.precision == "bf16" and not seen and asked in ("auto", "cpu"):
        has = torch.cpu.get_capabilities()
        if has.get("architecture") == "x86_64" and not any(map(has.get, _HALF_PRECISION)):
            yield Finding(
                "device",
                "warning",
                "trainer.precision=bf16, and this processor has neither AMX nor AVX512_BF16: a"
                " step takes about four times as long as in float32",
                "set trainer.precision=float32.",
            )


__all__ = ["diagnose", "examine"]
