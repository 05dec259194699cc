"""The licence of a pretrained backbone, as its folder states it."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
_HEADER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Licence:
    """What a folder says of its licence.

    Attributes:
        name: as its card's metadata has it; "" where it states none.
        file: text of the licence; None where there is none.
    """

    name: str = ""
    file: Path | None = None

    @property
    def sentence(self) -> str:
        """What is stated, and where."""
        if self.name:
            return f"{self.name}, by its README.md"
        return f"as its {self.file.name} has it" if self.file else "not stated"


def licence_of(folder: Path) -> Licence:
    """Return what a backbone's folder states of its licence; nothing is concluded from anything."""
    there = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    return Licence(name=_stated(folder / "README.md"), file=there)


def _stated(card: Path) -> str:
    try:
        header = _HEADER.match(card.read_text("utf-8"))
        said = yaml.safe_load(header.group(1)) if header else None
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    name = said.get("license") if isinstance(said, dict) else None
    return name.strip()[:_LONGEST] if isinstance(name, str) else ""


__all__ = ["Licence", "licence_of"]
