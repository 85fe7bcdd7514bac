"""W7: large pictures and many icons, beside the bare loop."""

from __future__ import annotations

from pathlib import Path

from bench_lib import bare, drive
from bench_lib.noise import RATIO_SPREAD_MOST
from bench_lib.picture import jpeg, png
from bench_lib.report import Figure
from bench_lib.setting import Service, Setting, running_service

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="none" stroke="#246"'
    ' stroke-width="2" d="M3 12a9 9 0 1 0 18 0A9 9 0 1 0 3 12m4 0 3 4 7-8"/></svg>'
)
ICONS = 200


def run(setting: Setting) -> list[Figure]:
    """Measure each kind: the same work by the bare loop, then by the service, file to file."""
    kinds: list[tuple[str, str, bytes, str, int]] = [
        ("24 MP JPEG to 1200x800", "jpg", jpeg(6000, 4000), "JPEG", 24),
        ("12 MP PNG to 400x300", "png", png(4000, 3000), "PNG", 8),
    ]
    figures = []
    with running_service(setting.folder) as service:
        for name, extension, source, kind, jobs in kinds:
            path = setting.folder / f"large.{extension}"
            path.write_bytes(source)
            size = (1200, 800) if kind == "JPEG" else (400, 300)
            ratios = []
            for each in range(setting.rounds):
                base = bare.run(
                    source, width_px=size[0], height_px=size[1], kind=kind, jobs=setting.jobs(jobs)
                )
                cost = _service(service, path, size, setting.jobs(jobs), each)
                ratios.append(cost.cpu_ms_a_job / base.cpu_ms_a_job)
            figures.append(
                Figure(f"{name}, CPU beside bare", "x", tuple(ratios), "<= 1.05", RATIO_SPREAD_MOST)
            )
        figures += _icons(service, setting)
    return figures


def _service(
    service: Service, path: Path, size: tuple[int, int], jobs: int, each: int
) -> bare.Cost:
    operation = "rasterize" if path.suffix == ".svg" else "resize"
    extension = ".png" if path.suffix == ".svg" else path.suffix
    wanted = [
        {
            "operationType": operation,
            "srcURL": f"file://{path}",
            "dstURL": f"file://{path.parent}/out/{path.stem}-{each}-{number}{extension}",
            "args": {"width": size[0], "height": size[1]},
        }
        for number in range(jobs)
    ]
    return drive.native(service, wanted, window=32)


def _icons(service: Service, setting: Setting) -> list[Figure]:
    path = setting.folder / "icon.svg"
    path.write_text(ICON)
    jobs = setting.jobs(ICONS)
    ratios, rates = [], []
    for each in range(setting.rounds):
        base = bare.run_call(_render_icon, jobs)
        cost = _service(service, path, (256, 256), jobs, each)
        ratios.append(cost.cpu_ms_a_job / base.cpu_ms_a_job)
        rates.append(cost.jobs_a_second)
    return [
        Figure(
            "SVG icon to 256x256, CPU beside bare resvg",
            "x",
            tuple(ratios),
            "<= 1.05",
            RATIO_SPREAD_MOST,
        ),
        Figure("SVG icon to 256x256", "jobs/s", tuple(rates)),
    ]


def _render_icon() -> bytes:
    import resvg_py  # noqa: PLC0415 (only here)

    return bytes(
        resvg_py.svg_to_bytes(svg_string=ICON, width=256, height=256, skip_system_fonts=True)
    )
