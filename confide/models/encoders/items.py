"""A catalogue's folder: ids, texts and their vectors, made once and known by content.

``items.json`` holds ids and texts, ``items.safetensors`` the vectors, centred, and where each item
stands along the axes on which items differ most (principal components). Axes are kept and not
worked out anew: their signs are another machine's choice. All of it follows from public texts.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from confide.config.models.items import ItemsConfig
from confide.config.spelling import canonical_name
from confide.errors import ModelError
from confide.models import backbones
from confide.models.encoders.text_vectors import TextVectors
from confide.storage.tensor_files import sha256
from confide.tasks.made.catalogue import Catalogue

_ITEMS, _VECTORS, _CONFIG = "items.json", "items.safetensors", "config.json"
_AXES = 256
_MODEL_TYPE = "confide_items"


def make_items(config: ItemsConfig) -> None:
    """Make the folder of a catalogue where it is not; one that is there stays.

    Raises:
        ModelError: if the catalogue or its encoder cannot be used.
    """
    folder = Path(config.name).expanduser()
    if not config.catalogue or folder.exists() or "://" in config.name:
        return
    ids, texts = read_table(config)
    vectors = TextVectors(config.encoder)(texts)
    write_items(folder, ids, texts, vectors - vectors.mean(dim=0))


def read_table(config: ItemsConfig) -> tuple[list[str], list[str]]:
    """Read ids and texts of a catalogue.

    Raises:
        ModelError: naming what does not fit.
    """
    key, place = f"backbone.catalogue={config.catalogue}", Path(config.catalogue).expanduser()
    try:
        if config.catalogue.startswith(backbones.PACKAGE_SCHEME):
            place = backbones.resolve_package_path(config.catalogue)
        elif not place.exists():
            raise FileNotFoundError(f"{config.catalogue}: there is no such file.")
        separator = "," if place.suffix.lower() == ".csv" else "\t"
        table = pandas.read_csv(place, sep=separator, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise ModelError(f"backbone.catalogue={error}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{key} cannot be read: {error}") from None
    missing = [name for name in (config.id_column, *config.text_columns) if name not in table]
    if missing:
        raise ModelError(
            f"{key} lacks column {', '.join(missing)}; it has {', '.join(table.columns)}. Set"
            " backbone.id_column and backbone.text_columns."
        )
    ids = [canonical_name(name) for name in table[config.id_column]]
    if len(set(ids)) < len(ids) or not all(ids) or len(ids) < 2:
        raise ModelError(
            f"{key}: {len(ids)} lines with {len(set(ids))} ids in column {config.id_column};"
            " expected at least two items, each with an id of its own."
        )
    columns = [table[name].str.strip() for name in config.text_columns]
    texts = [", ".join(filter(None, cells)) for cells in zip(*columns, strict=True)]
    return ids, texts


def write_items(folder: Path, ids: Sequence[str], texts: Sequence[str], vectors: Tensor) -> None:
    """Write a catalogue's folder, whole or not at all.

    Args:
        folder: made here.
        ids: canonical ids of N items.
        texts: what each is called.
        vectors: shape [N, d], centred.

    Raises:
        ModelError: if it cannot be written.
    """
    axes = torch.linalg.svd(vectors.double(), full_matrices=False)[2][:_AXES]
    tensors = {"vectors": vectors.float(), "places": (vectors.double() @ axes.T).float()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
            whole = Path(made) / folder.name
            whole.mkdir(mode=0o755)
            save_file({name: one.contiguous() for name, one in tensors.items()}, whole / _VECTORS)
            (whole / _VECTORS).chmod(0o644)
            items = {"ids": list(ids), "texts": list(texts)}
            (whole / _ITEMS).write_text(
                json.dumps(items, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            about = {"model_type": _MODEL_TYPE, "items": len(ids), "vectors": sha256(tensors)}
            (whole / _CONFIG).write_text(json.dumps(about) + "\n")
            whole.rename(folder)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"backbone.name={folder} cannot be written: {error}") from None


def copy_items(source: Path, folder: Path) -> None:
    """Copy what reading histories and naming items takes."""
    for name in (_ITEMS, _VECTORS):
        shutil.copyfile(source / name, folder / name)


def read_items(folder: Path) -> tuple[Catalogue, Tensor]:
    """Read a catalogue's folder.

    Returns:
        The catalogue, and where its items stand along their axes, shape [N, a].

    Raises:
        ModelError: if it is none.
    """
    try:
        tensors = load_file(folder / _VECTORS)
        items = json.loads((folder / _ITEMS).read_text(encoding="utf-8"))
        ids, texts = items["ids"], items["texts"]
        vectors, places = tensors["vectors"], tensors["places"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} holds no catalogue: {type(error).__name__}: {error}. Name the folder that"
            " was made of one."
        ) from None
    if not (len(ids) == len(texts) == len(vectors) == len(places) >= 2):
        raise ModelError(f"{folder} holds no catalogue: ids, texts and vectors differ in number.")
    return Catalogue(ids=ids, texts=texts, vectors=vectors), places


def read_catalogue(folder: Path) -> Catalogue:
    """Read what a task needs of a catalogue's folder.

    Raises:
        ModelError: if it is none.
    """
    return read_items(folder)[0]


__all__ = [
    "copy_items",
    "make_items",
    "read_catalogue",
    "read_items",
    "read_table",
    "write_items",
]
