"""Settings of the process that a library puts back as it found them.

Commands have their process to themselves and need none of this; calls from Python do.
"""

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Import without side effects on logging and warnings.

    Opacus gives the root logger a handler, and tqdm warns where a notebook has no widgets.
    """
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
    """Hide the progress bars of other libraries.

    ``TQDM_DISABLE``, which commands set, has no effect once tqdm is imported.
    """
    from tqdm import tqdm

    shown = tqdm.__init__
    tqdm.__init__ = functools.partialmethod(shown, disable=True)
    try:
        yield
    finally:
        tqdm.__init__ = shown


__all__ = ["quiet_imports", "threads_kept", "without_bars"]
