"""Lets FedLab and fluke be imported without torchvision.

They import it for data sets and ready models, of which none is used here. Its releases load beside
the very build of torch that they were made with and no other, so that it would decide which torch
everybody is measured on.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from unittest.mock import MagicMock


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `torchvision` and all inside it: modules that have any name, and do nothing."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Say that a module of torchvision is here."""
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Make a module that has any name."""
        return Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


class Anything(ModuleType):
    """A module in which there is anything that is asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


sys.meta_path.insert(0, StandIn())
