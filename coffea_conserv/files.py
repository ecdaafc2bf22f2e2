"""Files that are there as a whole or not at all."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coffea_conserv.errors import ConfigurationError

__all__ = ("check_writable", "replacing")


def check_writable(folder: Path) -> None:
    """Make a folder, and try it before what is to be written there has been computed.

    Raises
    ------
    ConfigurationError
        If nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
            probe.flush()
    except OSError as error:
        reason = error.strerror or error
        msg = f"nothing can be written to the folder {folder}: {reason}; free it, or give another one"
        raise ConfigurationError(msg) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put it in place of ``path`` if that succeeds.

    A reader sees the old file or the whole new one, never a part. The path is nobody else's: machines that
    share a folder have processes of one number.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
