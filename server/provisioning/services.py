"""What a kit installs its processes as: units of systemd, users, folders, and ``install.sh``.

An institution runs as three users, of whom one reads records and another has the network; a
coordinator as one. Nothing here is secret, and all of it is brought up to date at each run of
provisioning. ``install.sh`` is the same in every kit; what differs is in the files beside it.
"""

import hashlib
import re
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from confide.deployment.federation import FederationConfig
from confide.server.provisioning.files import write_changed, write_missing
from confide.storage.files import make_private_folder

_PACKAGE = "confide.server.provisioning"
_PROGRAM = "/opt/confide/current/bin/confide"
_TRAINER, _EXECUTOR, _SUPERNODE = "confide-trainer", "confide-executor", "confide-supernode"
"""Users of an institution's three services."""
_LONGEST_SLUG = 30
"""The trainer's socket is below the folder of this name, and a socket's path has 107 bytes."""
_PORTS = 9400, 250
"""First port on loopback, and how many pairs of ports follow."""
RUN_FILE = "run.conf"
"""What ``confide server`` is started with, which is the coordinator's own to write."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A process of a side, as a unit of systemd.

    Attributes:
        role: last part of the unit's name.
        user: user that it runs as.
        words: words of its command after ``confide``.
        writes: folders that it may write to.
        network: whom it reaches: nobody, this machine, or anybody.
        compiles: whether it makes code while it runs, as torch does.
        shares: whether it gives files to a group.
        stays: whether it is started again whenever it ends.
        settings: file with its environment, in the side's folder; None without one.
        keys: files of private keys that it reads, whose passphrases it is handed.
    """

    role: str
    user: str
    words: str
    writes: Sequence[str]
    network: Literal["none", "loopback", "any"]
    compiles: bool = False
    shares: bool = False
    stays: bool = True
    settings: str | None = None
    keys: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Side:
    """An institution or a coordinator, as it is installed on its machine.

    Attributes:
        kind: which of the two.
        who: its name for people.
        federation: name of the federation.
        home: folder that the kit is copied to.
        users: its users: name, description, home, groups beside its own.
        folders: path, mode, user, group of each folder, those above before those below.
        logs: folder, user, group of logs for people.
        owned: file of the kit, mode, user, group of each that is not everybody's to read.
        services: its processes.
        started: roles that are started at once, and at each start of the machine.
        own: file that belongs to the side's people, and that no later kit replaces.
        settings: lines that this file needs, and that are added where its people wrote none.
    """

    kind: str
    who: str
    federation: str
    home: str
    users: Sequence[tuple[str, str, str, Sequence[str]]]
    folders: Sequence[tuple[str, str, str, str]]
    logs: Sequence[tuple[str, str, str]]
    owned: Sequence[tuple[str, str, str, str]]
    services: Sequence[Service]
    started: Sequence[str]
    own: str
    settings: Sequence[str] = ()

    @property
    def stem(self) -> str:
        """What the names of its units and of its files of settings begin with."""
        return f"confide-{Path(self.home).name}"

    def unit(self, service: Service) -> str:
        """Return the name of a service's unit."""
        return f"{self.stem}-{service.role}.service"


def slug(name: str) -> str:
    """Write a federation's name so that units and folders can be called by it.

    >>> slug("Herz & Gefäße 2026")
    'herz-gefasse-2026'
    """
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore")
    words = re.sub("[^a-z0-9]+", "-", plain.decode().lower()).strip("-")
    return words[:_LONGEST_SLUG].strip("-") or hashlib.sha256(name.encode()).hexdigest()[:8]


def institution(name: str, federation: FederationConfig) -> Side:
    """Return an institution as it is installed: three users, three services, and a page."""
    home = f"/srv/confide/{slug(federation.name)}"
    state, first = f"{home}/state", _port(federation.name)
    trainer, executor, supernode = _TRAINER, _EXECUTOR, _SUPERNODE
    return Side(
        kind="institution",
        who=name,
        federation=federation.name,
        home=home,
        users=[
            (trainer, "confide, reads records", f"/var/lib/{trainer}", ["confide-socket"]),
            (executor, "confide, passes messages on", "/", ["confide-socket", "confide-runtime"]),
            (supernode, "confide, has the network", "/", ["confide-runtime"]),
        ],
        folders=[
            (home, "0750", "root", "confide"),
            (state, "0710", "root", "confide"),
            (f"{state}/trainer", "0710", trainer, "confide-socket"),
            (f"{state}/executor", "0750", executor, "confide"),
            (f"{state}/supernode", "0750", supernode, "confide"),
            (f"{state}/runtime", "0710", supernode, "confide-runtime"),
            (f"{home}/ledger", "0700", trainer, trainer),
            (f"/var/lib/{trainer}", "0700", trainer, trainer),
        ],
        # logrotate has one group alone, and needs the one that may pass through the folders above
        logs=[
            (f"{state}/trainer", trainer, "confide"),
            (f"{state}/executor", executor, "confide"),
            (f"{state}/supernode", supernode, "confide"),
        ],
        owned=[
            ("client.yaml", "0640", "root", "confide"),
            ("node.key", "0600", supernode, supernode),
            ("trainer.key", "0600", trainer, trainer),
        ],
        services=_institution_services(home, first),
        started=["trainer", "executor", "supernode"],
        own="client.yaml",
        settings=[
            f"runtime_port: {first}",
            "runtime_group: confide-runtime",
            "socket_group: confide-socket",
        ],
    )


def _institution_services(home: str, first: int) -> list[Service]:
    """Return an institution's services.

    Args:
        home: folder of the installed kit.
        first: the kit's own port; the page listens at the next one.
    """
    state, client = f"{home}/state", f"client {home} --only"
    page = f"dashboard {home} --listen 127.0.0.1:{first + 1}"
    trainer, executor, supernode = _TRAINER, _EXECUTOR, _SUPERNODE
    mine = [f"{state}/trainer", f"{home}/ledger", f"/var/lib/{trainer}"]
    runtime = [f"{state}/supernode", f"{state}/runtime"]
    return [
        Service(
            role="trainer",
            user=trainer,
            words=f"{client} trainer",
            writes=mine,
            network="none",
            compiles=True,
            shares=True,
            keys=["trainer.key"],
        ),
        Service(
            role="executor",
            user=executor,
            words=f"{client} executor",
            writes=[f"{state}/executor"],
            network="loopback",
        ),
        Service(
            role="supernode",
            user=supernode,
            words=f"{client} supernode",
            writes=runtime,
            network="any",
            shares=True,
            keys=["node.key"],
        ),
        Service(role="dashboard", user=trainer, words=page, writes=[], network="loopback"),
    ]


def coordinator(federation: FederationConfig) -> Side:
    """Return a coordinator as it is installed: one user, a run that people start, and a page."""
    home, user = f"/srv/confide/{slug(federation.name)}-coordinator", "confide-coordinator"
    page = f"dashboard {home} --listen 127.0.0.1:{_port(federation.name) + 1}"
    written = [f"{home}/state", f"{home}/runs", f"/var/lib/{user}"]
    keys = ["heads.key", "loopback.key", "server.key"]
    return Side(
        kind="coordinator",
        who="the coordinator",
        federation=federation.name,
        home=home,
        users=[(user, "confide, coordinates", f"/var/lib/{user}", [])],
        folders=[
            (home, "0750", "root", user),
            *((path, "0700", user, user) for path in written),
        ],
        logs=[(f"{home}/state/logs", user, user)],
        owned=[(RUN_FILE, "0640", "root", user), *((key, "0600", user, user) for key in keys)],
        services=[
            Service(
                role="run",
                user=user,
                words="server $CONFIDE_RUN",
                writes=written,
                network="any",
                compiles=True,
                stays=False,
                settings=RUN_FILE,
                keys=["heads.key", "server.key"],  # SuperLink reads its own, which is not encrypted
            ),
            Service(role="dashboard", user=user, words=page, writes=[], network="loopback"),
        ],
        started=[],
        own=RUN_FILE,
    )


def write_services(kit: Path, side: Side, config: Sequence[str] = ()) -> bool:
    """Write ``install.sh`` and all that it installs beside the kit itself.

    Args:
        kit: folder of the kit.
        side: whose it is.
        config: overrides of the federation, for a coordinator's first run.

    Returns:
        Whether anything was missing or is another now.
    """
    folder = kit / "service"
    make_private_folder(folder)
    texts = {
        "install.conf": _facts(side),
        "sysusers.conf": _sysusers(side),
        "tmpfiles.conf": _tmpfiles(side),
        "settings.yaml": "".join(f"{line}\n" for line in side.settings),
        "logrotate.conf": _render("logrotate.j2", logs=side.logs),
        **{side.unit(service): _unit(side, service) for service in side.services},
    }
    script = files(_PACKAGE).joinpath("service", "install.sh").read_text(encoding="utf-8")
    written = [write_changed(folder / name, text) for name, text in texts.items()]
    written.append(write_changed(kit / "install.sh", script))
    if side.own == RUN_FILE:
        written.append(write_missing(kit / RUN_FILE, lambda: _run_file(side, config)))
    return any(written)


def _port(federation: str) -> int:
    # By the name: the services of two federations on one machine shall not meet
    first, pairs = _PORTS
    return first + 2 * (int(hashlib.sha256(federation.encode()).hexdigest(), 16) % pairs)


def _unit(side: Side, service: Service) -> str:
    shown = {"who": side.who, "federation": side.federation}
    return _render(
        "unit.service.j2",
        it=service,
        unit=side.unit(service),
        stem=side.stem,
        home=side.home,
        program=_PROGRAM,
        # Of a unit's text % begins a specifier
        **{name: text.replace("%", "%%") for name, text in shown.items()},
    )


def _render(template: str, **values: object) -> str:
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "service"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(template).render(values)


def _sysusers(side: Side) -> str:
    groups = sorted({group for *_, others in side.users for group in others})
    common = [] if side.kind == "coordinator" else ["confide"]
    lines = [f"g {group} -" for group in [*common, *groups]]
    for user, meaning, home, others in side.users:
        lines.append(f'u {user} - "{meaning}" {home}')
        lines += [f"m {user} {group}" for group in [*common, *others]]
    return "".join(f"{line}\n" for line in lines)


def _tmpfiles(side: Side) -> str:
    lines = ["d /srv/confide 0755 root root"]
    lines += [" ".join(["d", *folder]) for folder in side.folders]
    lines += [" ".join(["z", f"{side.home}/{name}", *rest]) for name, *rest in side.owned]
    return "".join(f"{line}\n" for line in lines)


def _facts(side: Side) -> str:
    """Return what ``install.sh`` reads, a value a line."""
    facts = {
        "kind": side.kind,
        "who": side.who,
        "federation": side.federation,
        "stem": side.stem,
        "home": side.home,
        "user": side.users[0][0],
        "own": side.own,
        "started": " ".join(side.started),
    }
    return "".join(f"{name}={value}\n" for name, value in facts.items())


def _run_file(side: Side, config: Sequence[str]) -> str:
    words = shlex.join([side.home, *config])
    # As systemd reads a value in double quotes
    escaped = re.sub(r'([\\"$`])', r"\\\1", words)
    return (
        "# What `confide server` is started with: overrides of the next run.\n"
        f"# Then: systemctl start {side.stem}-run; journalctl -fu {side.stem}-run\n"
        '# A run that was cut off goes on with CONFIDE_RUN="--resume runs/DATE/TIME".\n'
        f'CONFIDE_RUN="{escaped}"\n'
    )


__all__ = ["RUN_FILE", "Service", "Side", "coordinator", "institution", "slug", "write_services"]
