"""Gathers everything that an institution without internet installs, so that it can be checked.

    python requirements/wheelhouse.py plain WHEEL             the same bytes whatever the umask
    python requirements/wheelhouse.py gather FOLDER WHEEL     wheels, hashes, bill of materials
        [--cuda] [--sign KEY]

Wheels are fetched by the hashes of ``kit.txt`` beside this file. torch is the CPU build of
``torch-cpu.txt``, or with ``--cuda`` that of ``kit.txt`` with what it brings.
"""

import argparse
import datetime
import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

HERE = Path(__file__).parent
LOCK, CPU = HERE / "kit.txt", HERE / "torch-cpu.txt"
OF_CUDA = re.compile(r"(torch|triton|nvidia-|cuda-)")
"""Beginnings of the names of torch and of what its CUDA build alone brings."""
BESIDE = (
    "docs/deployment.md",
    "docs/operations.md",
    "requirements/constraints.txt",
    "server/provisioning/service/install.sh",
)
"""What is read where there is no internet; the script, so that a kit's can be compared with it."""
SUMS = "SHA256SUMS"
_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@dataclass(frozen=True)
class Wheel:
    """A wheel that was gathered.

    Attributes:
        path: its file.
        metadata: what it says of itself.
    """

    path: Path
    metadata: Message

    @property
    def name(self) -> str:
        """Name of the package, in its canonical spelling."""
        return canonicalize_name(self.metadata["Name"])

    @property
    def version(self) -> str:
        """Version, with the part that tells builds apart."""
        return str(parse_wheel_filename(self.path.name)[1])

    @property
    def sha256(self) -> str:
        """Hash of the file."""
        return sha256(self.path)

    def requires(self) -> set[str]:
        """Return the names of what it needs here, without extras."""
        wanted = map(Requirement, self.metadata.get_all("Requires-Dist", []))
        return {
            canonicalize_name(it.name)
            for it in wanted
            if it.marker is None or it.marker.evaluate({"extra": ""})
        }


def read_wheel(path: Path) -> Wheel:
    """Read a wheel's metadata."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (
            it for it in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", it)
        )
        return Wheel(path, email.message_from_bytes(archive.read(name)))


def sha256(path: Path) -> str:
    """Return the hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(path: Path) -> None:
    """Give each file in a wheel the permissions 0644: those of a checkout follow from its umask."""
    temporary = path.with_suffix(".plain")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(temporary, "w") as new:
        for item in old.infolist():
            item.external_attr = 0o100644 << 16
            new.writestr(item, old.read(item.filename), compress_type=zipfile.ZIP_DEFLATED)
    temporary.replace(path)


def locked(lock: str, *, cuda: bool) -> str:
    """Return the part of a lock that is fetched: all of it, or all but torch and its CUDA."""
    blocks = re.findall(r"^\S.*(?:\n\s+.*)*$", lock, re.MULTILINE)
    return "\n".join(block for block in blocks if cuda or not OF_CUDA.match(block)) + "\n"


def gather(folder: Path, own: Path, *, cuda: bool, key: Path | None) -> None:
    """Fetch all wheels by their hashes, and write everything else beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        chosen = Path(scratch) / "chosen.txt"
        torch = "" if cuda else CPU.read_text()
        chosen.write_text(locked(LOCK.read_text(), cuda=cuda) + torch)
        # What comes as source is built by the tools that are here, and not by newly fetched ones
        words = ["wheel", "--no-deps", "--require-hashes", "--no-build-isolation"]
        subprocess.run([*_PIP, *words, "-w", str(wheels), "-r", str(chosen)], check=True)
    shutil.copy(own, wheels)
    for name in BESIDE:
        shutil.copy(HERE.parent / name, folder)
    shutil.copytree(HERE.parent / "containers", folder / "containers")
    describe(folder)
    check_whole(folder)
    if key is not None:
        sign(folder, key)


def describe(folder: Path) -> None:
    """Write the hashes, the bill of materials, and which Python the wheels are for."""
    wheels = [read_wheel(path) for path in sorted((folder / "wheels").glob("*.whl"))]
    pins = sorted(f"{it.name}=={it.version} --hash=sha256:{it.sha256}\n" for it in wheels)
    (folder / "requirements.txt").write_text("".join(pins))
    (folder / "python-version").write_text("{}.{}\n".format(*sys.version_info))
    (folder / "sbom.cdx.json").write_text(bill_of_materials(wheels))
    listed = sorted(path for path in folder.rglob("*") if path.is_file() and SUMS not in path.name)
    sums = [f"{sha256(path)}  {path.relative_to(folder)}\n" for path in listed]
    (folder / SUMS).write_text("".join(sums))


def check_whole(folder: Path) -> None:
    """Stop if something is missing: here, and not at an institution."""
    words = ["install", "--dry-run", "--ignore-installed", "--no-index", "--require-hashes"]
    places = ["--find-links", str(folder / "wheels"), "-r", str(folder / "requirements.txt")]
    # Without settings of this machine, which may name other places to find wheels in
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    subprocess.run([*_PIP, *words, *places], check=True, env=bare | {"PIP_CONFIG_FILE": os.devnull})


def bill_of_materials(wheels: Iterable[Wheel]) -> str:
    """Return a CycloneDX bill of materials, version 1.6, the same for the same wheels."""
    components = {wheel.name: _component(wheel) for wheel in wheels}
    bom = Bom(components=[it for name, it in components.items() if name != "confide"])
    bom.metadata.component = components["confide"]  # what the others are there for
    for wheel in wheels:
        needed = [components[name] for name in sorted(wheel.requires() & set(components))]
        bom.register_dependency(components[wheel.name], needed)
    identity = " ".join(sorted(wheel.sha256 for wheel in wheels))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, identity)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _component(wheel: Wheel) -> Component:
    purl = PackageURL("pypi", name=wheel.name, version=wheel.version)
    told = str(wheel.metadata.get("License-Expression") or wheel.metadata.get("License") or "")
    # Some put the licence's whole text there
    licenses = [LicenseFactory().make_from_string(told)] if 0 < len(told) < 100 else []
    return Component(
        type=ComponentType.LIBRARY,
        name=wheel.name,
        version=wheel.version,
        bom_ref=str(purl),
        purl=purl,
        licenses=licenses,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.sha256)],
        description=str(wheel.metadata.get("Summary", "")) or None,
    )


def sign(folder: Path, key: Path) -> None:
    """Sign the list of hashes with a private key, by openssl, which asks for its passphrase."""
    sums, signature = folder / SUMS, folder / f"{SUMS}.sig"
    words = ["dgst", "-sha384", "-sign", str(key), "-out", str(signature), str(sums)]
    subprocess.run(["openssl", *words], check=True)
    public = ["pkey", "-in", str(key), "-pubout", "-out", str(folder / "release.pub")]
    subprocess.run(["openssl", *public], check=True)


def main(argv: Sequence[str]) -> None:
    """Do what the words say."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("plain").add_argument("wheel", type=Path)
    gathering = commands.add_parser("gather")
    gathering.add_argument("folder", type=Path)
    gathering.add_argument("wheel", type=Path)
    gathering.add_argument("--cuda", action="store_true")
    gathering.add_argument("--sign", type=Path, metavar="KEY")
    arguments = parser.parse_args(argv)
    if arguments.command == "plain":
        plain(arguments.wheel)
    else:
        gather(arguments.folder, arguments.wheel, cuda=arguments.cuda, key=arguments.sign)


if __name__ == "__main__":
    main(sys.argv[1:])
