"""The font files of this system, found without reading them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

# What resvg reads; the same list is said to Landlock.
SUFFIXES = frozenset({".ttf", ".ttc", ".otf", ".otc"})
# resvg opens all of them for each file with text: 20 us a font, so 2,000 cost 40 ms.
FILES_LIMIT = 2_000


def font_files(folders: Sequence[Path]) -> list[str]:
    """List the font files under the folders, links resolved, at most `FILES_LIMIT`."""
    found: dict[str, None] = {}
    for path in _walk(folders):
        found[os.path.realpath(path)] = None
        if len(found) >= FILES_LIMIT:
            break
    return list(found)


# Of each font file: path, device, inode, size and time of its last change. A package that is
# upgraded puts a new file in place of the old one, and Landlock's rules are by inode.
FontsSeen = tuple[tuple[str, int, int, int, int], ...]


def see_fonts(folders: Sequence[Path]) -> FontsSeen:
    """Say which font files there are; equal answers mean that nothing has changed.

    Raises:
        OSError: when the system lacks descriptors or memory to look.
    """
    return see_files(font_files(folders))


def see_files(paths: Sequence[str]) -> FontsSeen:
    """Say what these files are; those that are gone are left out."""
    seen = []
    for path in paths:
        try:
            about = os.stat(path)  # noqa: PTH116  # before each text: a Path costs as much again
        except OSError as exc:
            _raise_if_short(exc)
            continue
        seen.append((path, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(seen)


def _raise_if_short(exc: OSError) -> None:
    """Let no shortage of the system pass for fonts that are gone."""
    if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise exc


def _walk(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for parent, folders_below, names in os.walk(folder, onerror=_raise_if_short):
            folders_below.sort()
            yield from (
                Path(parent, name)
                for name in sorted(names)
                if Path(name).suffix.lower() in SUFFIXES
            )


def fonts_report(folders: Sequence[Path]) -> bool | str:
    """Say for `status` whether SVGs with text can be rendered: True, or what is missing."""
    if font_files(folders):
        return True
    looked = ", ".join(map(str, folders))
    return (
        f"no font under {looked}: SVGs with text fail (401); install fonts, for example "
        "fonts-dejavu-core; a worker that runs notices it"
    )
