"""W1: 2 MP JPEG to 200x120, over HTTP, native client and POST /, beside the bare loop."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

from bench_lib import bare, drive
from bench_lib.ends import Ends, nginx
from bench_lib.noise import BARE_SPREAD_MOST, RATIO_SPREAD_MOST
from bench_lib.picture import jpeg
from bench_lib.report import BenchError, Figure
from bench_lib.setting import Setting, running_service

WIDTH_PX, HEIGHT_PX = 200, 120
SHORT_JOBS = 400
WINDOW = 64
CONNECTIONS = 32
BARE_ROW = "bare loop, CPU a job"
WAYS = NATIVE, POST = ("native client", "POST /")


def run(setting: Setting) -> list[Figure]:
    """Measure rounds of native client and HTTP, after a warming one.

    The bare loop runs before and after each: the machine's speed changes within seconds, and what
    a way is held against should be of the same minute.
    """
    source = jpeg(1733, 1154)
    jobs = setting.jobs(SHORT_JOBS)
    natives, https, native_bares, http_bares = [], [], [], []

    def bare_loop() -> bare.Cost:
        return bare.run(source, width_px=WIDTH_PX, height_px=HEIGHT_PX, kind="JPEG", jobs=jobs // 2)

    with nginx(setting.folder) as ends, running_service(setting.folder) as service:
        (ends.sources / "photo.jpg").write_bytes(source)
        drive.native(service, requests(ends, 50, "warm"), window=WINDOW)
        for each in range(setting.rounds):
            before = bare_loop()
            natives.append(drive.native(service, requests(ends, jobs, f"n{each}"), window=WINDOW))
            between = bare_loop()
            wanted = requests(ends, jobs, f"h{each}")
            https.append(drive.http(service, wanted, connections=CONNECTIONS))
            native_bares.append(before + between)
            http_bares.append(between + bare_loop())
            check_results(ends, jobs, f"n{each}", f"h{each}")
    return figures(Way(natives, native_bares), Way(https, http_bares))


class Way(NamedTuple):
    """The rounds of one way to submit, and the bare loops around each."""

    costs: list[drive.ServiceCost]
    bares: list[bare.Cost]


def figures(native: Way, http: Way) -> list[Figure]:
    """Return the rows of what the rounds cost."""
    bares = native.bares
    return [
        Figure(
            BARE_ROW,
            "ms",
            tuple(cost.cpu_ms_a_job for cost in bares),
            spread_most=BARE_SPREAD_MOST,
        ),
        Figure("bare loop, throughput", "jobs/s", tuple(cost.jobs_a_second for cost in bares)),
        *_beside(NATIVE, native, "<= 1.15", ">= 0.80"),
        *_beside(POST, http, "<= 1.20", ""),
    ]


def _beside(name: str, way: Way, cpu_goal: str, rate_goal: str) -> list[Figure]:
    costs = way.costs
    pairs = list(zip(costs, way.bares, strict=True))
    return [
        Figure(f"{name}, CPU a job", "ms", tuple(cost.cpu_ms_a_job for cost in costs)),
        *(
            Figure(part_row(name, part), "ms", tuple(cost.part_ms_a_job(part) for cost in costs))
            for part in costs[0].parts_s
        ),
        Figure(f"{name}, throughput", "jobs/s", tuple(cost.jobs_a_second for cost in costs)),
        Figure(
            f"{name}, CPU beside the bare loop",
            "x",
            tuple(cost.cpu_ms_a_job / base.cpu_ms_a_job for cost, base in pairs),
            cpu_goal,
            RATIO_SPREAD_MOST,
        ),
        Figure(
            f"{name}, throughput beside the bare loop",
            "x",
            tuple(cost.jobs_a_second / base.jobs_a_second for cost, base in pairs),
            rate_goal,
        ),
    ]


def part_row(name: str, part: str) -> str:
    """Return the name of the row that says what one part's CPU a job is."""
    return f"{name}: {part}, CPU a job"


def requests(ends: Ends, jobs: int, name: str) -> list[drive.Request]:
    """Return requests from the one source to results of their own."""
    return [
        {
            "operationType": "resize",
            "srcURL": f"{ends.url}/photo.jpg",
            "dstURL": f"{ends.url}/out/{name}-{each}.jpg",
            "args": {"width": WIDTH_PX, "height": HEIGHT_PX, "method": "PUT"},
        }
        for each in range(jobs)
    ]


def check_results(ends: Ends, jobs: int, *names: str) -> None:
    """Look at every result: a picture of the size asked for, and no placeholder."""
    for name in names:
        for each in range(jobs):
            path = ends.results / f"{name}-{each}.jpg"
            with Image.open(path) as image:
                if image.size != (WIDTH_PX, HEIGHT_PX) or image.getpixel((1, 1)) == (255, 255, 255):
                    raise BenchError(f"{path.name} is not the result")
            path.unlink()
