"""Small wheelhouses for tests: one wheel, called confide, whose command says its version."""

import base64
import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

_MODULE = "def main():\n    print('confide', {version!r})\n"
_METADATA = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{more}"
_WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_ENTRY = "[console_scripts]\nconfide = small_confide:main\n"


def make_wheel(folder: Path, version: str, *, name: str = "confide", more: str = "") -> Path:
    """Write a wheel that pip installs, with ``more`` lines of metadata."""
    info = f"{name}-{version}.dist-info"
    contents = {
        "small_confide.py": _MODULE.format(version=version),
        f"{info}/METADATA": _METADATA.format(name=name, version=version, more=more),
        f"{info}/WHEEL": _WHEEL,
        f"{info}/entry_points.txt": _ENTRY,
    }
    record = [f"{file},{_digest(text)},{len(text)}" for file, text in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in contents.items():
            wheel.writestr(zipfile.ZipInfo(file), text)  # of no day: the same bytes each time
    return path


def make_wheelhouse(folder: Path, version: str) -> Path:
    """Write a wheelhouse as `make kit` does, without a signature."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "wheels").mkdir(parents=True)
    wheel = make_wheel(folder / "wheels", version)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    files = {
        "requirements.txt": f"confide=={version} --hash=sha256:{digest}\n",
        "python-version": "{}.{}\n".format(*sys.version_info),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    sums = [f"{digest}  wheels/{wheel.name}"]
    sums += [f"{hashlib.sha256(text.encode()).hexdigest()}  {name}" for name, text in files.items()]
    (folder / "SHA256SUMS").write_text("\n".join([*sums, ""]))
    return folder


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
