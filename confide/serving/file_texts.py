"""Files in JSON and CSV: their bytes in base 64, since text cannot hold them."""

import base64
import binascii
from collections.abc import Sequence

from confide.serving.datatypes import Files
from confide.serving.refusal import bad


def decoded_files(name: str, texts: Sequence[object]) -> Files:
    """Return the bytes of files that came as text.

    Args:
        name: of their column.
        texts: in base 64; None where there is none.

    Raises:
        RefusedError: naming the first that is none.
    """
    found: Files = []
    for number, text in enumerate(texts, start=1):
        if text is None:
            found.append(None)
            continue
        try:
            if not isinstance(text, str):
                raise ValueError
            found.append(base64.b64decode(text, validate=True))
        except (ValueError, binascii.Error):
            raise bad(
                f"{name}: value {number} is no base 64 (RFC 4648); a file travels as its bytes in"
                " base 64. Names of files are not looked up here."
            ) from None
    return found


__all__ = ["decoded_files"]
