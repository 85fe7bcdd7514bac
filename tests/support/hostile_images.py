"""Pictures and SVGs that are made to do harm; each returns the bytes of a file."""

from __future__ import annotations

import base64
import io
import struct
import zlib

from PIL import Image

from tests.support import images

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '


def png_of_size(width_px: int, height_px: int, *, color: int = 6, idat: bytes = b"") -> bytes:
    """Make a PNG that says it is so large, with whatever stands for its pixels."""
    header = struct.pack("!IIBBBBB", width_px, height_px, 8, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + images.chunk(b"IHDR", header)
        + images.chunk(b"IDAT", idat or zlib.compress(b"\0" * 1000))
        + images.chunk(b"IEND", b"")
    )


def zeros(size_bytes: int) -> bytes:
    """Compress so many zeros without having them."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(1_000_000)) for _ in range(size_bytes // 1_000_000)]
    parts += [packer.compress(bytes(size_bytes % 1_000_000)), packer.flush()]
    return b"".join(parts)


def full_png(width_px: int, height_px: int, color: int = 6) -> bytes:
    """Make a valid PNG of one colour, a thousandth of its pixels' bytes long."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    data = zeros(height_px * (1 + samples * width_px))
    if color != 3:
        return png_of_size(width_px, height_px, color=color, idat=data)
    palette = images.chunk(b"PLTE", bytes(3)) + images.chunk(b"tRNS", b"\x80")
    whole = png_of_size(width_px, height_px, color=color, idat=data)
    return whole[:33] + palette + whole[33:]


def png_with_text_bomb() -> bytes:
    """Make a PNG whose compressed text unpacks to 200 MB."""
    text = images.chunk(b"zTXt", b"Comment\0\0" + zeros(200_000_000))
    return _after_header(images.png(), text)


def png_with_profile_bomb() -> bytes:
    """Make a PNG whose compressed colour profile unpacks to 200 MB."""
    return _after_header(images.png(), images.chunk(b"iCCP", b"p\0\0" + zeros(200_000_000)))


def png_of_many_chunks(count: int) -> bytes:
    """Make a PNG of very many empty chunks before its pixels."""
    return _after_header(images.png(), images.chunk(b"teXt", b"") * count)


def apng_of_many_frames(frames: int) -> bytes:
    """Make an APNG with so many frames, each of them the first one again."""
    first = images.encode(Image.new("L", (64, 48)), "PNG")
    control = struct.pack("!IIIIIHHBB", 0, 64, 48, 0, 0, 1, 10, 0, 0)
    begin = images.chunk(b"acTL", struct.pack("!II", frames, 0)) + images.chunk(b"fcTL", control)
    idat = first.index(b"IDAT") - 4
    size = struct.unpack_from("!I", first, idat)[0]
    pixels = first[idat : idat + 12 + size]
    again = images.chunk(b"fcTL", control) + images.chunk(
        b"fdAT", struct.pack("!I", 2) + pixels[8:-4]
    )
    return first[:33] + begin + pixels + again * frames + images.chunk(b"IEND", b"")


def gif_of_size(width_px: int, height_px: int) -> bytes:
    """Make a GIF whose screen is so large and whose one frame is a pixel."""
    return images.gif(2, 2)[:6] + struct.pack("<HH", width_px, height_px) + images.gif(2, 2)[10:]


def gif_of_large_frame() -> bytes:
    """Make a GIF with a small screen and a frame far larger than it."""
    data = images.gif(64, 48)
    at = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    return data[: at + 5] + struct.pack("<HH", 65535, 65535) + data[at + 9 :]


def gif_of_many_frames(frames: int) -> bytes:
    """Make a GIF that repeats its frame so often."""
    data = images.encode(Image.new("L", (64, 48)), "GIF")
    table = 3 * 2 ** ((data[10] & 7) + 1)
    return data[: 13 + table] + data[13 + table : -1] * frames + b";"


def progressive_jpeg(width_px: int, height_px: int) -> bytes:
    """Make a progressive JPEG of one colour with full chroma: the most memory a pixel can take."""
    buffer = io.BytesIO()
    grey = Image.new("RGB", (width_px, height_px), "gray")
    grey.save(buffer, "JPEG", progressive=True, subsampling=0, quality=20)
    return buffer.getvalue()


def jpeg_of_size(width_px: int, height_px: int) -> bytes:
    """Make a JPEG that says it is so large."""
    data = bytearray(images.jpeg(64, 48))
    at = data.index(b"\xff\xc0")
    struct.pack_into("!HH", data, at + 5, height_px, width_px)
    return bytes(data)


def jpeg_of_many_markers(count: int) -> bytes:
    """Make a JPEG with very many empty segments before its frame."""
    data = images.jpeg(64, 48)
    return data[:2] + b"\xff\xfe\x00\x02" * count + data[2:]


def svg_of(body: str, root: str = 'viewBox="0 0 100 100"', before: str = "") -> bytes:
    """Make an SVG."""
    return f"{before}{SVG}{root}>{body}</svg>".encode()


def data_url(kind: str, data: bytes) -> str:
    """Make a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def nested(levels: int, tag: str = "g") -> str:
    """Nest an element in itself."""
    return f"<{tag}>" * levels + '<rect width="9" height="9"/>' + f"</{tag}>" * levels


def doubling_uses(levels: int) -> str:
    """Make groups that use the one before twice: two to the power of levels rectangles."""
    groups = ['<g id="g0"><rect width="1" height="1"/></g>']
    groups += [
        f'<g id="g{n}"><use xlink:href="#g{n - 1}"/><use xlink:href="#g{n - 1}" x="1"/></g>'
        for n in range(1, levels + 1)
    ]
    return f'<defs>{"".join(groups)}</defs><use xlink:href="#g{levels}"/>'


def doubling_patterns(levels: int) -> str:
    """Make patterns that are filled with the one before."""
    patterns = [
        f'<pattern id="p{n}" width="2" height="2" patternUnits="userSpaceOnUse">'
        f'<rect width="1" height="1" fill="url(#p{n - 1})"/>'
        f'<rect x="1" width="1" height="1" fill="url(#p{n - 1})"/></pattern>'
        for n in range(1, levels + 1)
    ]
    return (
        f'<defs>{"".join(patterns)}</defs><rect width="100" height="100" fill="url(#p{levels})"/>'
    )


def _after_header(png: bytes, chunks: bytes) -> bytes:
    return png[:33] + chunks + png[33:]
