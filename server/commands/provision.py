"""``confide provision``: a federation's certificates, and a start-up kit for each institution.

The coordinator runs ``confide provision FEDERATION.yaml``; an institution that makes its own key
runs ``confide provision --request NAME`` and sends the file that this names.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.config.composing.folders import CONFIG_DIR_HELP, own_configs
from confide.errors import ConfigError
from confide.storage.files import folder_name

if TYPE_CHECKING:
    from confide.deployment.federation import FederationConfig
    from confide.server.provisioning.provision import Provisioned


def main(argv: Sequence[str]) -> int:
    """Run ``confide provision``, with the words after it, and return the exit status.

    Raises:
        ConfigError: if the command, the federation's YAML or a request is wrong.
        StorageError: if a file cannot be written.
    """
    try:
        with own_configs(argv) as rest:
            return _provision(_parser().parse_args(rest or ["--help"]))
    except SystemExit as stop:
        return int(stop.code or 0)


def _provision(arguments: argparse.Namespace) -> int:
    if (arguments.federation is None) == (arguments.request is None):
        raise ConfigError(
            "Expected either FEDERATION.yaml (the coordinator) or --request NAME (an institution)."
        )
    if arguments.request is not None:
        if arguments.csr or arguments.replace or arguments.revoke or any(_brought(arguments)):
            raise ConfigError(
                "--csr, --replace, --revoke, --server-certificate and --server-authority are for"
                " the coordinator; leave them out, or give FEDERATION.yaml."
            )
        return _request(arguments)
    if arguments.revoke and (arguments.csr or arguments.replace or any(_brought(arguments))):
        raise ConfigError(
            "--revoke does nothing else; give --csr, --replace and --server-certificate afterwards."
        )
    if any(_brought(arguments)) and not all(_brought(arguments)):
        raise ConfigError(
            "--server-certificate and --server-authority belong together: give the file of the"
            " chain, and that of the root at its end."
        )
    # Here and not above: --help and mistakes in the command need neither torch nor keys.
    from confide.server.provisioning.audited import audited
    from confide.server.provisioning.files import Places
    from confide.server.provisioning.provision import provision, read_federation
    from confide.server.provisioning.revoke import revoke
    from confide.server.provisioning.server_certificate import install

    federation, config = read_federation(arguments.federation)
    out = arguments.out or arguments.federation.parent / "kits"
    with audited(federation, out):
        if arguments.revoke:
            print("\n".join(revoke(federation, Places(out), arguments.revoke)))
            return 0
        if arguments.server_certificate:
            print("\n".join(install(federation, Places(out), _brought(arguments))))
        done = provision(federation, config, out, requests=arguments.csr, replace=arguments.replace)
    _print(done, federation)
    return 0


def _brought(arguments: argparse.Namespace) -> tuple[Path, Path]:
    return arguments.server_certificate, arguments.server_authority


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="confide provision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "federation",
        metavar="FEDERATION.yaml",
        type=Path,
        nargs="?",
        help="name, hosts, port, institutions, config, days, server_certificate",
    )
    many: dict[str, Any] = {"action": "append", "default": []}
    options: list[tuple[str, str, dict[str, Any]]] = [
        (
            "--out FOLDER",
            "folder to write to; default: kits/ next to the YAML, or the institution's name",
            {"type": Path},
        ),
        (
            "--csr FILE",
            "certificate request of an institution; may be repeated",
            {"type": Path, **many},
        ),
        # Read before the others, since it decides what "config" in the YAML may name
        ("--config-dir DIR", CONFIG_DIR_HELP, {}),
        ("--replace NAME", "replace this institution's keys by those of its requests", many),
        ("--revoke NAME", "refuse this institution's keys from now on; may be repeated", many),
        (
            "--server-certificate FILE",
            "chain of the coordinator's certificate that an external authority signed, PEM",
            {"type": Path},
        ),
        ("--server-authority FILE", "root at the end of that chain, PEM", {"type": Path}),
        (
            "--request NAME",
            "at an institution: make its keys, and certificate requests to send",
            {},
        ),
    ]
    for words, meaning, settings in options:
        option, metavar = words.split()
        parser.add_argument(option, metavar=metavar, help=meaning, **settings)
    return parser


def _request(arguments: argparse.Namespace) -> int:
    from confide.server.provisioning.provision import make_request

    name = arguments.request
    made = make_request(name, arguments.out or Path(folder_name(name)))
    print(
        f"{made.folder / 'node.key'}, trainer.key: private keys of {name}. Keep them here; nobody"
        " else ever needs them.\n"
        f"{made.folder / 'node.csr'}, trainer.csr: send these files to the coordinator, and nothing"
        " else.\n"
        "Fingerprint of the key, to be read to the coordinator by telephone:"
        f" {made.key_fingerprint}\n"
        "You will receive a kit without them: copy node.key and trainer.key into it, then run"
        " `confide doctor KIT`."
    )
    return 0


def _print(done: "Provisioned", federation: "FederationConfig") -> None:
    from confide.security import certificates
    from confide.security.server_chain import read_root
    from confide.tables import Table

    table = Table("institution", "kit", "node.key", "fingerprint of its public key")
    for kit in done.kits:
        where = "in the kit" if kit.has_key else "at the institution"
        table.add_row(kit.name, kit.state, where, kit.key_fingerprint)
    table.show()
    for name in done.removed:
        print(f"{name} was removed: its key is no longer in coordinator/; its kit is kept.")
    for note in done.notes:
        print(note)
    places = done.places
    print(
        f"\nNext, in {places.out}:\n"
        "  authority/     take it offline: anyone who has ca.key can pose as the coordinator.\n"
        f"  coordinator/   bring it to the machine that is reached as {federation.address};"
        " README.md explains how.\n"
        "  institutions/  send each folder to its institution and nobody else, over a channel that"
        " others cannot read.\n"
        f"  Compare by telephone the SHA-256 fingerprint of ca.crt: {done.fingerprint}"
    )
    if places.server_ca.is_file():
        root = certificates.fingerprint(read_root(places.server_ca))
        print(f"  And that of {places.server_ca.name}: {root}")


__all__ = ["main"]
