"""Pretrained backbones: found offline, safetensors only, known by their content.

A backbone is a local folder, a folder inside an installed package (``pkg://PACKAGE/FOLDER``), or a
hub name, which is only looked up in the local cache unless downloading was allowed. Its content
hash goes into the plan, so that an institution starts from the very weights that it approved.
"""

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from confide.config.custom import implementation
from confide.config.examples import how_to_install
from confide.config.models.backbone import BackboneConfig, Pretrained
from confide.config.models.table import BACKBONES
from confide.config.models.transformer import TransformerConfig
from confide.errors import ModelError, words_of

PACKAGE_SCHEME = "pkg://"
# Chat templates are code that writes a conversation's tokens; Marian's words are in *.spm
_HASHED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja", "*/*.jinja")
_ATTENTION = ("eager", "sdpa", "flex_attention")
"""Implementations of attention that torch brings; for others transformers fetches kernels from its
hub."""


def resolve_package_path(reference: str) -> Path:
    """Find ``pkg://PACKAGE/FILE`` inside an installed package, without importing it.

    Raises:
        FileNotFoundError: naming the package or the file that is not there, and the fix.
    """
    package, _, inside = reference.removeprefix(PACKAGE_SCHEME).partition("/")
    # Of a.b, a would be imported.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{reference}: package {package} is not installed; {how_to_install(package)}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.exists():
        raise FileNotFoundError(f"{reference}: package {package} has no {inside}.")
    return path


def find_backbone(config: Pretrained) -> Path:
    """Return the folder of a backbone and check that it can be used.

    Raises:
        ModelError: if it is not there, has no safetensors weights, or is not the one whose hash was
            given.
    """
    folder = _locate(config)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"backbone.name={config.name}: {folder} holds no config.json; expected a model in"
            " Hugging Face format."
        )
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"backbone.name={config.name}: {folder} holds no *.safetensors; pickled weights can run"
            " code and are not loaded. Convert them with transformers' save_pretrained."
        )
    if config.sha256 is not None and content_hash(folder) != config.sha256:
        raise ModelError(
            f"backbone.name={config.name}: expected content hash sha256={config.sha256}, {folder}"
            f" has {content_hash(folder)}; bring the folder that was approved, or approve this one."
        )
    return folder


def _locate(config: Pretrained) -> Path:
    """Return where a folder, a package or the hub's cache holds a backbone."""
    if config.name.startswith(PACKAGE_SCHEME):
        try:
            return resolve_package_path(config.name)
        except FileNotFoundError as error:
            raise ModelError(f"backbone.name={error}") from None
    if Path(config.name).is_dir():
        return Path(config.name)
    if config.absent:
        raise ModelError(f"backbone.name={config.name}: there is no such folder; {config.absent}")
    # A hub name is NAME or OWNER/NAME: anything else is a path, and the hub is not asked for it.
    if config.name.startswith((".", "/", "~")) or config.name.count("/") > 1:
        raise ModelError(f"backbone.name={config.name}: there is no such folder.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # What is not hashed is not fetched, so that nothing unknown can decide.
        found = snapshot_download(
            config.name, allow_patterns=list(_HASHED), local_files_only=not config.allow_download
        )
        return Path(found)
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        fix = "bring it as a folder, or set backbone.allow_download=true"
        if config.allow_download:
            fix = "check the name and the network"
        raise ModelError(
            f"backbone.name={config.name}: neither a folder nor in the local hub cache; {fix}."
        ) from None


def content_hash(folder: Path) -> str:
    """Hash what decides a backbone's outputs: weights, config, tokenizer."""
    files = sorted({path for pattern in _HASHED for path in folder.glob(pattern)})
    stamps = tuple(
        (str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
    )
    return _hash_files(folder.resolve(), stamps)


def pretrained_hash(backbone: BackboneConfig) -> str | None:
    """Return the content hash of a backbone's files; None for one without weights.

    Asked for by whoever writes a plan: files that follow from the config alone are made first.

    Raises:
        ModelError: if its files cannot be used.
    """
    maker = BACKBONES[backbone.kind].maker
    if maker is not None:
        implementation(maker)(backbone)
    weights = backbone.pretrained
    return None if weights is None else content_hash(find_backbone(weights))


# By size and time of change: weights may be gigabytes, and their hash is asked for often.
@functools.lru_cache(maxsize=64)
def _hash_files(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in stamps:
        digest.update(f"{name}\0{size}\0".encode())
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_encoder(folder: Path, config: TransformerConfig) -> Any:
    """Load an encoder of texts, prepared by :func:`load_pretrained`.

    Raises:
        ModelError: if it cannot be loaded, has fewer layers than asked for, or lacks weights.
    """
    changes: dict[str, Any] = {}
    if config.num_hidden_layers is not None:
        layers = getattr(load_settings(folder), "num_hidden_layers", None)
        if layers is None or config.num_hidden_layers > layers:
            raise ModelError(
                f"backbone.num_hidden_layers={config.num_hidden_layers} exceeds the {layers} layers"
                f" of {config.name}; lower it."
            )
        changes["num_hidden_layers"] = config.num_hidden_layers
    return load_pretrained(folder, changes=changes, name=config.name)


def load_pretrained(
    folder: Path,
    *,
    auto_class: str = "AutoModel",
    changes: Mapping[str, Any] | None = None,
    fresh: tuple[str, ...] = (),
    name: str | None = None,
) -> Any:
    """Load a model of any family in float32, ready for per-record gradients.

    Nothing is fetched, pickled weights and code of a folder are not read, and what
    :func:`~confide.models.prepared.prepare_model` does has been done: dropout, stochastic depth and
    SpecAugment off, BatchNorm folded, training mode. Randomness would make equal seeds give unequal
    weights across engines, and DP noise regularises by itself.

    Args:
        folder: a backbone's, as :func:`find_backbone` returns it.
        auto_class: name of the class of transformers that loads it, such as
            ``AutoModelForCausalLM``.
        changes: settings of ``config.json`` that are to be others, by name.
        fresh: beginnings of names of tensors that may be missing, or of another shape, since they
            are trained from a random start: a new head's.
        name: of the backbone, for errors; None for the folder's.

    Raises:
        ModelError: if it cannot be loaded, lacks weights, or knows no such setting.
    """
    import transformers

    from confide.models.prepared import prepare_model, switch_off_randomness

    settings = load_settings(folder)
    switch_off_randomness(settings)
    for key, value in (changes or {}).items():
        if not hasattr(settings, key):
            raise ModelError(f"{name or folder}: config.json has no {key}; take another backbone.")
        setattr(settings, key, value)
    # A pooler would be filled with random weights where the folder has none.
    wants_pooler = auto_class != "AutoModel" or not has_pooler(settings)
    extra = {} if wants_pooler else {"add_pooling_layer": False}
    with quiet_transformers(), loading(folder):
        model, info = getattr(transformers, auto_class).from_pretrained(
            folder,
            config=settings,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            # Whatever the folder was saved in: a half-precision sum loses what a record adds.
            dtype="float32",
            ignore_mismatched_sizes=bool(fresh),
            output_loading_info=True,
            **extra,
        )
        _freeze_fixed(model, extra)
    _refuse_missing(name or str(folder), info, fresh)
    return prepare_model(model)


def _freeze_fixed(model: Any, extra: Mapping[str, Any]) -> None:
    """Freeze what a family never trains, such as a table of sines: transformers 5 forgets it."""
    import torch

    with torch.device("meta"):
        bare = type(model)(model.config, **extra)
    fixed = {name for name, p in bare.named_parameters() if not p.requires_grad}
    for name, parameter in model.named_parameters():
        if name in fixed:
            parameter.requires_grad_(False)


def _refuse_missing(name: str, info: Mapping[str, Any], fresh: tuple[str, ...]) -> None:
    """Check that every tensor came from the folder, those of ``fresh`` beginnings aside."""
    # Of other shapes: names, or tuples that begin with the name.
    unlike = [one if isinstance(one, str) else one[0] for one in info["mismatched_keys"]]
    missing = sorted(
        key
        for key in {*info["missing_keys"], *unlike}
        # A norm's counter, which other libraries leave out, decides nothing.
        if not key.startswith(fresh) and not key.endswith(".num_batches_tracked")
    )
    if missing:
        raise ModelError(
            f"{name} lacks weights for {', '.join(missing[:3])} ({len(missing)} tensors);"
            " they would be random."
        )


def load_settings(folder: Path) -> Any:
    """Load what a folder's ``config.json`` says of its model.

    Raises:
        ModelError: if it cannot be read, needs code of its own, or sends transformers elsewhere for
            code.
    """
    from transformers import AutoConfig

    refuse_other_code(folder)
    # trust_remote_code is said aloud: unset, transformers may ask on the terminal.
    with quiet_transformers(), loading(folder):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def refuse_other_code(folder: Path) -> None:
    """Check that ``config.json`` names no kernels or quantisation, whose code is elsewhere.

    Raises:
        ModelError: naming the key, the value and the fix.
    """
    file = folder / "config.json"
    with loading(folder):
        found = next(_elsewhere(json.loads(file.read_text())), None) if file.is_file() else None
    if found is not None:
        raise ModelError(
            f"{folder} cannot be loaded: config.json has {found}, whose code lies elsewhere; take"
            " it out."
        )


def _elsewhere(value: Any) -> Iterator[str]:
    """Yield what sends transformers to other packages or its hub, at any depth."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        if name == "quantization_config" and inner is not None:
            yield name
        elif name.endswith(("_implementation", "_implementation_internal")):
            chosen = inner.values() if isinstance(inner, dict) else [inner]
            yield from (
                f"{name}={str(one)[:60]}"
                for one in chosen
                if one is not None and one not in _ATTENTION
            )
        else:
            yield from _elsewhere(inner)
    for inner in value if isinstance(value, list) else ():
        yield from _elsewhere(inner)


@contextlib.contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turn what transformers says of files that it cannot use into our own error.

    Raises:
        ModelError: naming the folder.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # its exceptions, and those of its tokenizers, have no common class
        told = words_of(error)
        raise ModelError(
            f"{folder} cannot be loaded: {told}. Bring the whole folder anew; code in it is not"
            " run."
        ) from None


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep loading reports and bars off the terminal.

    Unused weights are expected, missing ones are checked.
    """
    from transformers.utils import logging

    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()


def has_pooler(settings: Any) -> bool:
    """Tell whether a family's AutoModel adds a pooler that mean or cls pooling never uses."""
    from transformers import MODEL_MAPPING

    found = MODEL_MAPPING.get(type(settings), None)
    made = found[0] if isinstance(found, tuple) else found
    return made is not None and "add_pooling_layer" in inspect.signature(made).parameters


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer that belongs to a backbone.

    It pads and cuts texts on the right, whatever the folder says, and draws nothing at random.

    Raises:
        ModelError: if it cannot be loaded, or has words that the backbone lacks.
    """
    from transformers import AutoTokenizer

    refuse_other_code(folder)
    with quiet_transformers(), loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        rules: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
        if getattr(rules, "dropout", None):  # of merges: a text would be other words each time
            rules.dropout = None
        last_word = max(tokenizer.get_vocab().values(), default=0)
    _refuse_unknown_words(folder, last_word)
    return tokenizer


def _refuse_unknown_words(folder: Path, last_word: int) -> None:
    """Check that a backbone has a vector for each word of the tokenizer beside it."""
    if not (folder / "config.json").is_file():  # exported to ONNX
        return
    known = getattr(load_settings(folder), "vocab_size", None)
    if known is not None and last_word >= known:
        raise ModelError(
            f"{folder}: its tokenizer numbers words up to {last_word}, and config.json says"
            f" vocab_size={known}; bring the tokenizer that belongs to these weights."
        )


__all__ = [
    "PACKAGE_SCHEME",
    "content_hash",
    "find_backbone",
    "has_pooler",
    "load_encoder",
    "load_pretrained",
    "load_settings",
    "load_tokenizer",
    "loading",
    "pretrained_hash",
    "quiet_transformers",
    "refuse_other_code",
    "resolve_package_path",
]
