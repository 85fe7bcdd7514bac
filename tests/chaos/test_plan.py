"""A plan comes from its seed alone and is dense enough for the promised number of kills."""

from __future__ import annotations

from scripts.chaos_lib.plan import Kind, draw

WORKERS = ("worker-1", "worker-2")


def test_a_seed_gives_the_same_plan():
    """The same seed draws the same faults, another seed others."""
    first, second, other = (
        draw(seed=seed, duration_s=60, workers=WORKERS, lease_s=2) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_half_an_hour_holds_five_hundred_kills():
    """Thirty minutes hold more than 500 kills, of every part."""
    plan = draw(seed=3, duration_s=1800, workers=WORKERS, lease_s=2)
    kills = [fault.target for fault in plan if fault.kind is Kind.KILL]
    assert len(kills) > 600
    assert {"gateway", "broker", *WORKERS, *(f"pixels of {name}" for name in WORKERS)} == set(kills)


def test_every_kind_of_fault_comes():
    """Half an hour holds every kind, in order of time."""
    plan = draw(seed=3, duration_s=1800, workers=WORKERS, lease_s=2)
    assert {fault.kind for fault in plan} == set(Kind)
    assert [fault.at_s for fault in plan] == sorted(fault.at_s for fault in plan)


def test_workers_are_stopped_past_their_lease():
    """Many stops of workers last longer than the lease, so that a ghost comes back."""
    plan = draw(seed=3, duration_s=1800, workers=WORKERS, lease_s=2)
    stops = [each for each in plan if each.kind is Kind.STOP and each.target in WORKERS]
    assert sum(stop.seconds > 2 for stop in stops) > len(stops) / 3
