"""An institution's kit: a folder with its keys and ``client.yaml``, its own config.

``client.yaml`` is composed by Hydra, with overrides from the command line, into :class:`KitConfig`.
Paths in it are relative to the kit. torch is not imported.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import MarkedYAMLError

from confide.client.deployment.records_config import RecordsConfig
from confide.client.ledger.names import ledger_path, population_of
from confide.config.client import TrainerConfig
from confide.config.composing.own_files import OwnFile, find_mistakes, in_file
from confide.config.composing.quoting import quote_texts
from confide.config.data import DataConfig
from confide.config.fields import STRICT, range_problems, setting
from confide.config.privacy import PolicyConfig
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError
from confide.monitoring.address import check
from confide.protocol.plan import Task
from confide.security.redaction import redact
from confide.security.server_chain import FILE as SERVER_CA

FILE = "client.yaml"
_UNSET = "???"
# An update's tensors travel with names, shapes and figures.
_SLACK = 1.1
_NOT_SET = {
    "name": "it comes with the kit, as the coordinator provisioned it",
    "coordinator.address": "it comes with the kit",
    "data.path": "write where your records are, a file or a database",
}

log = logging.getLogger(__name__)


@dataclass
class CoordinatorConfig:
    """Address of the coordinator, and the files by which both sides recognise each other."""

    address: str = setting(_UNSET, "HOST:PORT of the coordinator.")
    ca: str = setting(
        "ca.crt",
        "Certificate of the federation's authority. It signed the coordinator's certificate too,"
        " unless server-ca.crt lies in the kit, the root of another.",
    )
    key: str = setting("node.key", "This institution's private key, EC P-384 in OpenSSH format.")
    certificate: str = setting(
        "node.crt",
        "Certificate for that key, shown to a coordinator that asks for one; none where there is no"
        " such file.",
    )
    trainer_key: str = setting(
        "trainer.key",
        "The trainer's private key, EC P-384 in PEM, by which it signs in sums that nobody sees"
        " inside; readable by its user alone.",
    )
    trainer_certificate: str = setting(
        "trainer.crt", "Certificate of the authority for that key; other institutions check it."
    )
    heads: str = setting(
        "heads.pub",
        "Public key by which the coordinator countersigns heads of the ledger; where there is no"
        " such file, no countersignature is kept.",
    )

    def problems(self) -> Iterator[str]:
        """Yield contradictions, one sentence each."""
        host, _, port = self.address.rpartition(":")
        if not (host and port.isdigit() and 0 < int(port) < 2**16):
            yield f"address={self.address}: expected HOST:PORT, such as fed.example.org:8443."


@dataclass
class KitConfig:
    """Everything that an institution decides, whatever a plan asks for."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str = setting(_UNSET, "Name of the institution, as the coordinator provisioned it.")
    coordinator: CoordinatorConfig = field(default_factory=CoordinatorConfig)
    data: RecordsConfig = field(default_factory=RecordsConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    task: dict[str, Any] = setting(
        dict,
        "Task that is served; a plan with another one is refused. {}: any that fits, only without a"
        " budget.",
    )
    backbones: list[str] = setting(
        list, "Folders of pretrained backbones, or pkg://PACKAGE/FOLDER; plans name them by hash."
    )
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    ledger: str = setting(
        "ledger",
        "Folder of privacy ledgers, one file a population, and of the keys of units and splits."
        " Kits of the same people in several federations name the same folder; back it up, and"
        " never restore an older copy.",
    )
    ledger_anchors: str | None = setting(
        None,
        "Folder of anchors of this ledger folder alone, best on another disk; null: next to them.",
    )
    kept_replies: int = setting(
        4,
        "Rounds whose replies are kept for a coordinator that resumes from an earlier one.",
        ge=1,
        le=1000,
    )
    drift_references: int = setting(
        4,
        "Models whose reference statistics are kept for `confide drift`, in the trainer's folder of"
        " state; 0: none is made when a model is scored.",
        ge=0,
        le=100,
    )
    state: str = setting("state", "Folder of sockets, logs, and algorithms' state between rounds.")
    audit_log: str | None = setting(
        None,
        "Folder of the audit log, which the trainer's user alone writes; keep it. null: audit in"
        " the trainer's folder of state.",
    )
    dashboard: str | None = setting(
        None,
        "Address at which `confide client` shows this side's state, its metrics and its health:"
        " 127.0.0.1:PORT, which every user of this machine can read, or unix:/PATH; null: none.",
    )
    runtime_port: int | None = setting(
        None,
        "Port on loopback between SuperNode and executor; null: a free one. Set it if each runs as"
        " a separate service.",
        ge=1,
        le=65535,
    )
    runtime_group: str | None = setting(
        None,
        "Group shared by the users of SuperNode and executor, for the secret between them; null:"
        " one user runs both.",
    )
    socket_group: str | None = setting(
        None,
        "Group shared by the users of executor and trainer, for the trainer's socket; null: one"
        " user runs both.",
    )

    def problems(self) -> Iterator[str]:
        """Yield contradictions, one sentence each."""
        if self.policy.budget.epsilon is None:
            if self.policy.required_unit != "none":
                yield (
                    "policy.budget.epsilon is not set; write what your population may spend in its"
                    f" lifetime, over all runs, for instance {2 * self.policy.max_epsilon:g}."
                    " Without it only policy.required_unit=none is possible."
                )
            if self.policy.approval == "manual":
                yield (
                    "policy.approval=manual: approvals are kept in the ledger, and"
                    " policy.budget.epsilon=null has none."
                )
        elif not self.task:
            # A plan of any task is held against the records: does each value fit its columns?
            yield (
                "task is not set, and policy.budget.epsilon is: whoever writes plans could ask,"
                " free of charge, which values occur in your records. Copy the task from the kit as"
                " it came, or from a plan that your people agreed to."
            )
        if "any" in self.policy.tasks:
            yield (
                "policy.tasks=any is for simulations; list the kinds of task, and the dotted paths"
                " of custom tasks, that are served."
            )
        yield from (f"data.{problem}" for problem in self.data.as_data().problems())
        if self.dashboard is not None:
            try:
                check(self.dashboard, "dashboard")
            except ConfigError as error:
                yield from error.problems


@dataclass(frozen=True)
class InstitutionKit:
    """An institution's kit on this machine.

    Attributes:
        folder: absolute path of the kit.
        config: its config, checked.
        task: task that is served; None for any, where nothing is protected.
        overrides: overrides from the command line, for processes that read the kit again.
    """

    folder: Path
    config: KitConfig
    task: TaskConfig | None
    overrides: tuple[str, ...] = ()

    def path(self, name: str) -> Path:
        """Return a path of the config, relative to the kit."""
        return self.folder / Path(name).expanduser()

    @property
    def data(self) -> DataConfig:
        """Settings of the institution's records."""
        return self.config.data.as_data(self.folder)

    @property
    def max_message_mb(self) -> float:
        """Size of the largest message in MiB: the largest update and a margin."""
        return _SLACK * self.config.policy.max_update_mb

    @property
    def state(self) -> Path:
        """Folder of the processes' state."""
        return self.path(self.config.state)

    @property
    def own(self) -> Path:
        """Folder that only the trainer uses, except for its socket in it."""
        return self.state / "trainer"

    @property
    def socket(self) -> Path:
        """Path of the trainer's socket."""
        return self.own / "trainer.sock"

    @property
    def audit_log(self) -> Path:
        """Folder of the audit log."""
        named = self.config.audit_log
        return self.own / "audit" if named is None else self.path(named)

    @property
    def ledger(self) -> Path:
        """File of the ledger: the population's, whatever the institution is called."""
        # Resolved: the same folder by two paths must have one lock, and one anchor beside it
        folder = self.path(self.config.ledger).resolve()
        return ledger_path(folder, self.anchors, self.config.policy.budget.id)

    @property
    def certificates(self) -> list[Path]:
        """Files of certificates that end some day; a kit need not have all of them."""
        coordinator = self.config.coordinator
        own = coordinator.trainer_certificate, coordinator.certificate
        roots = dict.fromkeys((self.path(coordinator.ca), self.server_ca))
        return [*roots, *map(self.path, own)]

    @property
    def server_ca(self) -> Path:
        """File of the root by which the coordinator's server is recognised."""
        other = self.folder / SERVER_CA
        return other if other.is_file() else self.path(self.config.coordinator.ca)

    @property
    def anchors(self) -> Path:
        """Folder of the anchors of ledgers."""
        return self.path(self.config.ledger_anchors or self.config.ledger).resolve()

    @property
    def population(self) -> str:
        """Name of the population whose budget is charged."""
        return self.config.policy.budget.id or population_of(self.ledger)

    @property
    def anchor(self) -> Path:
        """File of the ledger's anchor."""
        return self.anchors / f"{self.ledger.name}.anchor"


def load_kit(folder: Path, overrides: Sequence[str] = ()) -> InstitutionKit:
    """Read a kit.

    Raises:
        ConfigError: naming every mistake.
    """
    kit, problems = read_kit(folder, overrides)
    if problems:
        raise ConfigError(problems)
    return kit


def read_kit(folder: Path, overrides: Sequence[str] = ()) -> tuple[InstitutionKit, list[str]]:
    """Read a kit, and return it with its mistakes, one sentence each.

    Raises:
        ConfigError: if its config cannot be composed at all.
    """
    folder = folder.expanduser().resolve()
    if not (folder / FILE).is_file():
        raise ConfigError(
            f"{folder} holds no {FILE}; name the folder of a kit that `confide provision` made."
        )
    config, missing = _compose(folder, overrides)
    task, problems = _task(config.task)
    problems += [f"{key} is not set; {_NOT_SET.get(key, 'write a value')}." for key in missing]
    problems += [
        problem
        for problem in range_problems(config)
        if not problem.startswith(tuple(f"{key}=" for key in missing))
    ]
    kit = InstitutionKit(folder, config, task, tuple(overrides))
    typed = [override.partition("=")[0].lstrip("+~") for override in overrides]
    return kit, [
        in_file(folder / FILE, problem, name=FILE, overridden=typed) for problem in problems
    ]


def _compose(folder: Path, overrides: Sequence[str]) -> tuple[KitConfig, list[str]]:
    """Return the config, and the keys that have no value."""
    ConfigStore.instance().store(name="institution", node=KitConfig)
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            composed = hydra_compose(
                Path(FILE).stem, overrides=quote_texts(overrides, schema=KitConfig)
            )
        if OmegaConf.get_type(composed) is not KitConfig:
            raise ConfigError(
                f"{folder / FILE}: expected `defaults: [institution, _self_]` at its top."
            )
        missing = sorted(OmegaConf.missing_keys(composed))
        # With its own name as its value, so that everything else can be checked as well.
        for key in missing:
            OmegaConf.update(composed, key, key)
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException, ValueError, MarkedYAMLError) as error:
        base = OmegaConf.structured(KitConfig)
        file = OwnFile(path=folder / FILE, name=Path(FILE).stem, package=())
        # Every mistake of the file, with its line
        mistakes = [str(one) for one in find_mistakes(base, [file]) if one.sort != "unwise"]
        # Overrides are quoted in errors, and may hold a database's password.
        told = mistakes or [f"{folder / FILE}: {redact(_in_one_line(error))}"]
        raise ConfigError(told) from None
    assert isinstance(config, KitConfig)
    return config, missing


def _in_one_line(error: Exception) -> str:
    """Return the message of a YAML, Hydra or OmegaConf error, with the key that it is about."""
    if isinstance(error, MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        return f"{error.problem}, line {line}."
    # Hydra wraps OmegaConf's errors, which are several lines with the key in one of them.
    lines = [line.strip() for line in str(error.__cause__ or error).strip().splitlines()]
    messages = (line for line in lines if not line.endswith("raised while composing config:"))
    message = next(messages, lines[0])
    keys = (line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: "))
    key = next(keys, "")
    return f"{key}: {message}" if key else message


def _task(raw: dict[str, Any]) -> tuple[TaskConfig | None, list[str]]:
    if not raw:
        return None, []
    try:
        task: TaskConfig = TypeAdapter(Task).validate_json(json.dumps(raw))
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        return None, [
            f"{'.'.join(['task', *map(str, e['loc'][1:])])}: {e['msg'].rstrip('.')}." for e in wrong
        ]
    return task, [f"task.{problem}" for problem in range_problems(task)]


__all__ = [
    "FILE",
    "CoordinatorConfig",
    "InstitutionKit",
    "KitConfig",
    "load_kit",
    "read_kit",
]
