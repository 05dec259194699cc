"""What an institution installs from: hashes, a signature, a bill of materials, the same bytes."""

import importlib.util
import json
import re
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from wheelhouses import make_wheel

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "requirements" / "wheelhouse.py"
ENTRY = re.compile(r"^([\w.-]+)==([\w.+]+)(.*(?:\n .*)*)", re.MULTILINE)

spec = importlib.util.spec_from_file_location("wheelhouse", SCRIPT)
assert spec is not None
assert spec.loader is not None
wheelhouse = importlib.util.module_from_spec(spec)
sys.modules["wheelhouse"] = wheelhouse
spec.loader.exec_module(wheelhouse)


def openssl(*words: str | Path, cwd: Path) -> bool:
    done = subprocess.run(["openssl", *map(str, words)], cwd=cwd, capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Two wheels, one of which needs the other, and what is written beside them."""
    folder = tmp_path / "wheel house"
    (folder / "wheels").mkdir(parents=True)
    needs = "Requires-Dist: Other_Thing>=1; python_version>'3'\nLicense-Expression: Apache-2.0\n"
    make_wheel(folder / "wheels", "1.0", more=needs)
    make_wheel(folder / "wheels", "2.0", name="other_thing")
    wheelhouse.describe(folder)
    return folder


def test_the_lock_is_of_the_tested_releases_and_has_all_that_is_needed() -> None:
    tested = dict(
        line.split("==") for line in (ROOT / "requirements" / "constraints.txt").read_text().split()
    )
    known = {canonicalize_name(name): version for name, version in tested.items()}
    entries = ENTRY.findall(wheelhouse.LOCK.read_text())
    for name, version, rest in entries:
        assert "--hash=sha256:" in rest, name
        # What the CUDA build of torch brings, and other systems need, is not installed in tests
        assert known.get(canonicalize_name(name), version) == version, name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {canonicalize_name(Requirement(it).name) for it in project["dependencies"]}
    assert needed <= {canonicalize_name(name) for name, _, _ in entries}


def test_without_cuda_neither_torch_nor_what_it_brings_is_of_the_lock() -> None:
    lock = wheelhouse.LOCK.read_text()
    whole, rest = (
        [name for name, _, _ in ENTRY.findall(wheelhouse.locked(lock, cuda=cuda))]
        for cuda in (True, False)
    )
    assert whole == [name for name, _, _ in ENTRY.findall(lock)]
    left = set(whole) - set(rest)
    assert {"torch", "triton", "nvidia-nccl-cu13", "cuda-bindings"} <= left
    assert {name.partition("-")[0] for name in left} == {"torch", "triton", "nvidia", "cuda"}
    (torch,) = ENTRY.findall(wheelhouse.CPU.read_text())
    assert torch[:2] == ("torch", dict((n, v) for n, v, _ in ENTRY.findall(lock))["torch"] + "+cpu")


def test_every_file_has_its_hash_and_pip_asks_for_it(house: Path) -> None:
    checked = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=house, check=False)
    assert checked.returncode == 0
    listed = {line.split("  ")[1] for line in (house / "SHA256SUMS").read_text().splitlines()}
    files = {str(path.relative_to(house)) for path in house.rglob("*") if path.is_file()}
    assert files - listed == {"SHA256SUMS"}
    wheelhouse.check_whole(house)
    make_wheel(house / "wheels", "2.0", name="other_thing", more="Summary: another\n")
    with pytest.raises(subprocess.CalledProcessError):
        wheelhouse.check_whole(house)
    pins = house / "requirements.txt"
    pins.write_text(pins.read_text().splitlines()[0])  # and not what confide needs
    with pytest.raises(subprocess.CalledProcessError):
        wheelhouse.check_whole(house)


def test_the_bill_of_materials_is_valid_and_the_same_each_time(house: Path) -> None:
    text = (house / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert bom["metadata"]["component"]["name"] == "confide"
    components = {it["name"]: it for it in bom["components"]}
    other = components["other-thing"]
    assert other["purl"] == "pkg:pypi/other-thing@2.0"
    (wheel,) = (house / "wheels").glob("other_thing*")
    assert other["hashes"] == [{"alg": "SHA-256", "content": wheelhouse.sha256(wheel)}]
    depends = {it["ref"]: it.get("dependsOn", []) for it in bom["dependencies"]}
    assert depends["pkg:pypi/confide@1.0"] == [other["bom-ref"]]
    wheelhouse.describe(house)
    assert (house / "sbom.cdx.json").read_text() == text


def test_a_signature_is_checked_by_openssl_alone(house: Path, tmp_path: Path) -> None:
    key = tmp_path / "release.key"
    curve = "ec_paramgen_curve:P-384"
    assert openssl("genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", key, cwd=tmp_path)
    wheelhouse.sign(house, key)
    words = ("dgst", "-sha384", "-verify", "release.pub", "-signature", "SHA256SUMS.sig")
    assert openssl(*words, "SHA256SUMS", cwd=house)
    sums = house / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("a", "b", 1))
    assert not openssl(*words, "SHA256SUMS", cwd=house)
    assert "PRIVATE" not in (house / "release.pub").read_text()


def test_a_wheel_s_permissions_are_not_those_of_a_checkout(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "1.0")
    before = zipfile.ZipFile(wheel)
    contents = {name: before.read(name) for name in before.namelist()}
    before.close()
    wheelhouse.plain(wheel)
    with zipfile.ZipFile(wheel) as after:
        assert {name: after.read(name) for name in after.namelist()} == contents
        assert {stat.S_IMODE(it.external_attr >> 16) for it in after.infolist()} == {0o644}
    once = wheel.read_bytes()
    wheelhouse.plain(wheel)
    assert wheel.read_bytes() == once


@pytest.mark.slow
def test_two_clones_in_two_folders_build_the_same_wheel(tmp_path: Path) -> None:
    ready = Path(sys.prefix) / ".ready"
    built = []
    # Whoever clones may have another umask, and builds at another time
    for name, umask in (("one", 0o022), ("and another", 0o077)):
        clone = tmp_path / name
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True, umask=umask)
        # The environment as it is: nothing of a clone is installed into it
        words = ["make", "-s", "wheel", f"VENV={sys.prefix}", f"--assume-old={ready}"]
        subprocess.run(words, cwd=clone, check=True, umask=umask)
        (wheel,) = (clone / "dist").glob("*.whl")
        built.append(wheel.read_bytes())
    assert built[0] == built[1]
