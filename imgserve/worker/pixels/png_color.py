"""The colours that a PNG describes without an ICC profile: gAMA, cHRM and cICP, brought to sRGB.

Pillow reads none of them. Where several are there, browsers take cICP before iCCP before sRGB
before the other two (PNG, third edition, 4.3); cHRM counts only beside gAMA.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from imgserve.picture_warnings import WarningCollector, WarningName

_SIGNATURE_BYTES: Final = 8
_COLOR_CHUNKS: Final = frozenset({b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP"})
# Both are 1/100,000 (11.3.2.1 and 11.3.2.2).
_UNIT: Final = 100_000
# A gamma this near to 1/2.2 is sRGB's by and large, and is shown as it is (libpng's threshold).
_USUAL_GAMMA, _THRESHOLD = 2.2, 0.05
_SRGB_GAMMA: Final = 0.0  # stands for sRGB's own curve

White = tuple[float, float]
Primaries = tuple[White, White, White, White]  # white, red, green, blue

_D65: Final = (0.3127, 0.3290)
# ITU-T H.273, table 2.
_CICP_PRIMARIES: Final[dict[int, Primaries]] = {
    1: (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
# Table 3, as displays show them: 1, 6, 14 and 15 by BT.1886.
_CICP_GAMMAS: Final = {
    1: 2.4, 6: 2.4, 14: 2.4, 15: 2.4, 4: 2.2, 5: 2.8, 8: 1.0, 13: _SRGB_GAMMA,
}  # fmt: skip
# Bruce Lindbloom, "Chromatic Adaptation": Bradford.
_BRADFORD: Final = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


@dataclass(frozen=True, slots=True)
class PngColor:
    """How samples become light.

    Args:
        gamma: the exponent from samples to linear light; 0: sRGB's own curve.
        primaries: of the red, green and blue; None: sRGB's.
        instead_of_profile: an ICC profile in the same file does not count.
    """

    gamma: float
    primaries: Primaries | None = None
    instead_of_profile: bool = False


def png_color(data: bytes, warnings: WarningCollector) -> PngColor | None:
    """Read what a PNG says of its colours, but for an ICC profile.

    Args:
        data: a whole PNG.
        warnings: takes a description that cannot be used.

    Returns:
        None where its samples are sRGB's, or an ICC profile describes them.
    """
    found = dict(_chunks(data))
    if not found:
        return None
    if (cicp := found.get(b"cICP")) is not None and len(cicp) == 4:
        primaries, transfer, matrix, full_range = cicp
        if matrix == 0 and full_range == 1:
            return _of_cicp(primaries, transfer, warnings)
    if b"iCCP" in found or b"sRGB" in found:
        return None
    gamma = _gamma(found.get(b"gAMA", b""))
    if gamma is None:
        return None
    own = _primaries(found.get(b"cHRM", b""))
    if own is None and abs(gamma / _USUAL_GAMMA - 1) < _THRESHOLD:
        return None
    return PngColor(gamma, own)


def to_srgb(image: Image.Image, color: PngColor) -> Image.Image:
    """Convert samples to sRGB; alpha stays as it is.

    Args:
        image: of mode L, LA, RGB, RGBA or I;16.
        color: what its samples mean.
    """
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I;16"):
        return image
    top = 65535 if image.mode == "I;16" else 255
    samples = np.asarray(image)
    colors = {"LA": 1, "RGB": 3, "RGBA": 3}.get(image.mode)
    planes = samples if colors is None else samples[..., :colors]
    # All values are few: the curve is computed once for each.
    levels = np.arange(top + 1, dtype=np.float64) / top
    linear = _linear(levels, color.gamma).astype(np.float32)[planes]
    if color.primaries is not None and planes.ndim == 3 and planes.shape[2] == 3:
        linear = linear @ _to_srgb_matrix(color.primaries).T.astype(np.float32)
    coded = np.rint(_srgb(np.clip(linear, 0, 1)) * top).astype(samples.dtype)
    if colors is None:
        return Image.fromarray(coded)
    whole = samples.copy()
    whole[..., :colors] = coded
    return Image.frombytes(image.mode, image.size, whole.tobytes())


def _of_cicp(primaries: int, transfer: int, warnings: WarningCollector) -> PngColor | None:
    if primaries not in _CICP_PRIMARIES or transfer not in _CICP_GAMMAS:
        warnings.add(
            WarningName.COLOR_NOT_CONVERTED,
            f"the PNG's cICP chunk names colours that are not converted: "
            f"primaries {primaries}, transfer {transfer}",
        )
        return PngColor(_SRGB_GAMMA, None, instead_of_profile=True)
    own = None if primaries == 1 else _CICP_PRIMARIES[primaries]
    return PngColor(_CICP_GAMMAS[transfer], own, instead_of_profile=True)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the whole chunks before the pixels that describe colours."""
    offset = _SIGNATURE_BYTES
    while offset + 12 <= len(data):
        size, name = struct.unpack_from("!I4s", data, offset)
        if name == b"IDAT" or offset + 12 + size > len(data):
            return
        if name in _COLOR_CHUNKS:
            body = data[offset + 8 : offset + 8 + size]
            (checksum,) = struct.unpack_from("!I", data, offset + 8 + size)
            if zlib.crc32(name + body) == checksum:
                yield name, body
        offset += 12 + size


def _gamma(body: bytes) -> float | None:
    value = int.from_bytes(body, "big") if len(body) == 4 else 0
    return _UNIT / value if 0 < value < 2**31 else None


def _primaries(body: bytes) -> Primaries | None:
    if len(body) != 32:
        return None
    values = [value / _UNIT for value in struct.unpack("!8I", body)]
    found = tuple(zip(values[::2], values[1::2], strict=True))
    if any(y <= 0 for _, y in found):
        return None
    try:
        np.linalg.inv(_rgb_to_xyz(found))  # type: ignore[arg-type]
    except np.linalg.LinAlgError:
        return None
    return found  # type: ignore[return-value]


def _linear(values: np.ndarray, gamma: float) -> np.ndarray:
    if gamma == _SRGB_GAMMA:
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.power(values, gamma))


def _srgb(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def _to_srgb_matrix(primaries: Primaries) -> np.ndarray:
    own_white, srgb_white = _xyz(primaries[0]), _xyz(_D65)
    scale = np.diag((_BRADFORD @ srgb_white) / (_BRADFORD @ own_white))
    adapt = np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD
    from_own: np.ndarray = adapt @ _rgb_to_xyz(primaries)
    return np.asarray(np.linalg.inv(_rgb_to_xyz(_CICP_PRIMARIES[1])) @ from_own)


def _rgb_to_xyz(primaries: Primaries) -> np.ndarray:
    columns = np.array([_xyz(point) for point in primaries[1:]]).T
    return np.asarray(columns * np.linalg.solve(columns, _xyz(primaries[0])))


def _xyz(point: White) -> np.ndarray:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])
