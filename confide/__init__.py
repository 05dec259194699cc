"""confide: federated fine-tuning with differential privacy that an institution can sign off."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# In a checkout the subpackages lie beside this folder; an installed wheel has them inside, and no pyproject.toml.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file():
    __path__.append(str(_ROOT))

try:
    __version__ = version("confide")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
