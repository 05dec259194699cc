"""What lies in a backbone's folder beside its weights."""

import functools
from pathlib import Path

from confide.models.backbones import load_settings, load_tokenizer
from confide.models.encoders.items import read_catalogue
from confide.pictures.processor import load_processor
from confide.tasks.task import Assets


def folder_assets(folder: Path) -> Assets:
    """Return what a task may need of a backbone's folder, or of an exported model's."""
    return {
        "tokenizer": functools.partial(load_tokenizer, folder),
        "settings": functools.partial(load_settings, folder),
        "catalogue": functools.partial(read_catalogue, folder),
        "processor": functools.partial(load_processor, folder),
    }


__all__ = ["folder_assets"]
