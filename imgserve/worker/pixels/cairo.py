"""CairoSVG, loaded without a compiler and without a temporary file.

cairocffi asks ctypes where libcairo is, and that asks ldconfig and then gcc, which writes a file:
on a read-only system with gcc it raises. The loader finds the library by its name alone.
"""

from __future__ import annotations

import ctypes.util


def _find_nothing(name: str) -> str | None:  # noqa: ARG001  # the signature of find_library
    """Let cairocffi go on to the names that it knows, libcairo.so.2 among them."""
    return None


_find = ctypes.util.find_library
ctypes.util.find_library = _find_nothing
try:
    import cairosvg
except OSError as exc:
    raise ImportError(
        f"libcairo.so.2 cannot be loaded; install it, for example libcairo2 ({exc})"
    ) from exc
finally:
    ctypes.util.find_library = _find

__all__ = ["cairosvg"]
