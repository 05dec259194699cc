"""A library's manners: what belongs to the process is left as it was found.

Commands own their process and need none of this; whoever calls from Python does.
"""

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep the root logger as it is, which Opacus gives a handler, and leave unsaid that tqdm has no widgets in a notebook."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def threads_kept() -> Iterator[None]:
    """Put torch's number of threads back."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Hide the bars of the libraries below.

    The environment, which commands set, counts only until tqdm is imported.
    """
    from tqdm import tqdm

    shown = tqdm.__init__
    tqdm.__init__ = functools.partialmethod(shown, disable=True)
    try:
        yield
    finally:
        tqdm.__init__ = shown


__all__ = ["quiet_imports", "threads_kept", "without_bars"]
