"""Optional packages, asked for where a form needs them."""

from importlib.util import find_spec

from confide.errors import ConfigError

RUNTIME = ("onnxruntime",)
CONVERTER = ("onnx", "onnxruntime", "onnxscript")
TREES = ("xgboost",)


def require(names: tuple[str, ...], what: str, *, extra: str = "export") -> None:
    """Check that optional packages are installed.

    Args:
        names: as they are imported.
        what: needs them.
        extra: of confide that brings them.

    Raises:
        ConfigError: naming those that are not, and what brings them.
    """
    # Found, not imported: importing them takes seconds.
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{what} needs {', '.join(missing)}; `pip install 'confide[{extra}]'` brings what is"
            " missing."
        )


__all__ = ["CONVERTER", "RUNTIME", "require"]
