"""Texts of a start-up kit: its ``client.yaml``, and the README pages of kit and coordinator."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from confide.config.models.backbone import Weights
from confide.config.run import Config
from confide.deployment.federation import FederationConfig
from confide.errors import ModelError
from confide.models.backbones import PACKAGE_SCHEME, content_hash, find_backbone

_CLIENT_YAML = """\
# What this institution runs, allows and promises.
# `confide client KIT` reads it; `confide doctor KIT` checks it.
defaults:
  - institution
  - _self_
name: {name}
coordinator: {{address: {address}}}
data: {{path: "???"}}         # your records: a file or a database; see docs/records.md
policy:
  budget: {{epsilon: "???"}}  # what your population may spend in its lifetime, over all runs
  # secure: {{required: true}}  # refuses plans whose coordinator sees your update, and not sums alone
{hashes}backbones: []               # folders of pretrained backbones you approve; [] for tables
{suggestion}task:
{task}"""

_KIT_PAGE = """\
# Start-up kit of {name}

This folder lets {name} take part in the federation **{federation}**.

| file | what it is | secret |
|---|---|---|
| `client.yaml` | what your institution runs, allows and promises: fill in each `"???"` | no |
| `ca.crt` | the certificate authority by which your side recognises the coordinator | no |
{elsewhere}| `heads.pub` | the key by which the coordinator countersigns what your ledger said | no |
| `node.pub` | your public key, by which the coordinator recognises you | no |
| `node.key` | {key} | **yes** |
| `trainer.crt` | the authority's word that your trainer is yours, for sums that nobody sees inside | no |
| `trainer.key` | your trainer's private key, from where `node.key` is | **yes** |
| `install.sh`, `service/` | installs this kit as services under three users (`sh install.sh --dry-run` shows how), and removes them | no |
| `monitoring/grafana.json`, `monitoring/alerts.yaml` | a board and alert rules for those who watch `confide dashboard KIT` | no |
| `node.crt`, `revoked.json` | if there are such: the certificate that the coordinator asks you for; keys that count no more, signed | no |

Anyone who has `node.key` can act as your institution, and with `trainer.key` sign for it: keep both on the machine that takes
part, each readable by one user (`chmod 600 node.key trainer.key`). {key_advice}
Where SuperNode and trainer run under users of their own, as `install.sh` has it, `node.key` belongs to the SuperNode's
and `trainer.key` to the trainer's: whoever takes over the process with the network must not sign for the trainer.

## Before you start

Call the coordinator, on a number that you already know, and compare the SHA-256 fingerprint of
`ca.crt` (`openssl x509 -in ca.crt -noout -fingerprint -sha256`):

    {fingerprint}

Your firewall must let this machine connect out to `{address}` (TCP port {port}, TLS). Nothing connects in.

## Three commands, in this order

`KIT` is this folder.

0. As a service (docs/operations.md): `sh install.sh`; `KIT` is then the folder that it names, and step 2 is done by systemd.
1. `confide doctor KIT` reports what is missing or wrong, and how to fix it.
2. `confide client KIT` takes part, until you stop it.
3. `confide client status KIT` shows what is running, and what was spent.

## What leaves the building

- Updates: what training changed in the model, with noise as the plan says and your policy requires.
- The number of training records (or `policy.public_n`), the privacy spent, the metrics that
  `policy.metrics` names, and when you take part. Noise protects none of these.
- When you decline: the rule, what was requested and what you allow.

What stays: records, columns, file names, the ledger, the training loss. The coordinator cannot change your policy, your budget
or the task in `client.yaml`, and no code of its own runs here.
"""

_KIT_ELSEWHERE = """\
| `server-ca.crt` | the root by which your side recognises the coordinator's server, instead of `ca.crt`, which vouches for trainers: \
`confide doctor KIT` tells the fingerprints of both, to be compared by telephone; without it, ask for it | no |
"""
_COORDINATOR_ELSEWHERE = """\
| `server.csr`, `server-ca.crt` | the request for `server.crt` to the external authority; its root, by which institutions recognise this \
server (`ca.crt` vouches for trainers and nodes) | no |
"""
_MADE_HERE = "your private key, made by the coordinator"
_MADE_THERE = (
    "your private key: not in this kit; copy it here from where `confide provision --request`"
    " made it"
)
_ADVICE_MADE_HERE = (
    "It came with this kit: if the kit travelled where others could read it, ask to replace the key"
    " (below).\n"
)
_ADVICE_MADE_THERE = "Nobody else has seen it.\n"
_REPLACE = (
    "To replace a key, run `confide provision --request NAME --out FOLDER` here, and send the"
    " coordinator `node.csr` and `trainer.csr` alone."
)

_COORDINATOR_PAGE = """\
# Coordinator of {federation}

Bring this folder to the machine that institutions reach as {hosts}, port {port}. Let TCP connections in to that port.

| file | what it is | secret |
|---|---|---|
| `ca.crt` | the certificate authority that institutions trust | no |
| `server.crt`, `server.key` | the certificate for the hosts above, and its key | `server.key` |
{elsewhere}| `heads.key` | countersigns heads of institutions' ledgers: whoever has it can help to rewrite one | yes |
| `loopback.crt`, `loopback.key` | the same for connections inside this machine | `loopback.key` |
| `monitoring/` | a Grafana board and alert rules for `confide dashboard` of this folder | no |
| `federation.json`, `nodes/`, `trainers/` | who may take part, by public key; who signs in masked sums | no |
| `install.sh`, `service/`, `run.conf` | installs this kit as a service, and what a run of it is started with | no |

SHA-256 fingerprint of `ca.crt`, to be compared by telephone with each institution:

    {fingerprint}

## The authority

`authority/ca.key`, next to this folder, can make a certificate that every institution trusts.
Keep `authority/` offline (on a stick in a safe): nothing that runs needs it. Bring it back when
hosts change or a certificate is within 30 days of its end, run `confide provision` again, and take
it away again. An institution is added without it, and takes part in masked sums once it has a `trainer.crt`.

## Kits

Send each folder of `institutions/` to its institution and to nobody else, over a channel that others cannot read, and
delete its `node.key` and `trainer.key` here once they have arrived. Better: the institution makes its keys itself (`confide
provision --request NAME`), and you run `confide provision FEDERATION.yaml --csr FILE --csr FILE`; a changed key also needs `--replace NAME`.

An institution is removed by taking its name out of the YAML and running `confide provision` again. One whose keys were stolen is refused at once by
`confide provision FEDERATION.yaml --revoke NAME`; where this folder is on another machine already, `revoked.json` is brought to it.
"""


def client_yaml(name: str, federation: FederationConfig, config: Config) -> str:
    """Write an institution's ``client.yaml``, with the federation's task pinned in it."""
    task = OmegaConf.to_yaml(OmegaConf.create(_literal(dataclasses.asdict(config.task))))
    hashes, suggestion = _backbone_comments(config)
    return _CLIENT_YAML.format(
        name=_quoted(name),
        address=_quoted(federation.address),
        hashes=hashes,
        suggestion=suggestion,
        task="".join(f"  {line}\n" for line in task.splitlines()),
    )


def kit_page(name: str, federation: FederationConfig, *, fingerprint: str, has_key: bool) -> str:
    """Write the README of a kit.

    Args:
        name: name of the institution.
        federation: federation that the kit is for.
        fingerprint: fingerprint of the authority's certificate.
        has_key: whether the kit holds the private key.
    """
    return _KIT_PAGE.format(
        name=name,
        federation=federation.name,
        elsewhere=_KIT_ELSEWHERE if federation.is_certified_elsewhere else "",
        key=_MADE_HERE if has_key else _MADE_THERE,
        key_advice=(_ADVICE_MADE_HERE if has_key else _ADVICE_MADE_THERE) + _REPLACE,
        fingerprint=fingerprint,
        address=federation.address,
        port=federation.port,
    )


def coordinator_page(federation: FederationConfig, *, fingerprint: str) -> str:
    """Write the README of the coordinator's kit."""
    return _COORDINATOR_PAGE.format(
        federation=federation.name,
        elsewhere=_COORDINATOR_ELSEWHERE if federation.is_certified_elsewhere else "",
        hosts=", ".join(f"`{host}`" for host in federation.hosts),
        port=federation.port,
        fingerprint=fingerprint,
    )


def _quoted(text: str) -> str:
    """Write a string so that YAML reads it back as the same string, even ``no`` or ``1e3``."""
    # JSON's strings are YAML's double-quoted ones.
    return json.dumps(_literal(text), ensure_ascii=False)


def _literal(value: Any) -> Any:
    """Escape ``${`` in the strings of a value, so that OmegaConf does not interpolate them."""
    if isinstance(value, str):
        # Backslashes before it are doubled: OmegaConf takes an odd one for the escape itself.
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, list) else value


def _backbone_comments(config: Config) -> tuple[str, str]:
    """Return two comments for ``client.yaml``: the backbone's hash, and where to find it."""
    backbone = config.backbone.pretrained
    if backbone is None:
        return "", ""
    digest = backbone.sha256
    if not digest:
        # Provisioning needs no backbone: if there is no copy here, the hash is simply left out.
        with contextlib.suppress(ModelError):
            digest = content_hash(find_backbone(Weights(backbone.name, backbone.sha256)))
    hashes = (
        f"  # backbones: [{digest}]  # content hash (SHA-256) of the coordinator's copy\n"
        if digest
        else ""
    )
    is_folder = (
        not backbone.name.startswith(PACKAGE_SCHEME) and Path(backbone.name).expanduser().is_dir()
    )
    reference = f"/path/to/{Path(backbone.name).name}" if is_folder else backbone.name
    return (
        hashes,
        f"# backbones: [{_quoted(reference)}]  # the one that this federation fine-tunes\n",
    )


__all__ = ["client_yaml", "coordinator_page", "kit_page"]
