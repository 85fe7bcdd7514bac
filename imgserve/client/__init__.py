"""The native client: submits jobs to the broker and cannot lose one.

`ledger` decides what to say again (pure), `link` carries, `session` joins them on an event loop;
`AsyncClient` and `Client` are the two faces of a session.
"""

from imgserve.client.aio import AsyncClient, AsyncJob
from imgserve.client.ledger import Timing
from imgserve.client.outcome import JobUnknown, Outcome
from imgserve.client.sync import Client, Job

__all__ = ["AsyncClient", "AsyncJob", "Client", "Job", "JobUnknown", "Outcome", "Timing"]
