"""The tag that a job's worker must have, as a header and as an argument of the client."""

from __future__ import annotations

import pytest

from imgserve.client import Client
from imgserve.errors import ProtocolError
from imgserve.protocol.jobs import Submit
from tests.support.gateway_run import REQUEST


def test_the_header_goes_to_the_broker(broker, gateway):
    """With both ways to submit; without the header the tag is empty."""
    gateway.post(REQUEST, Imgserve_Tag="zone-a")
    gateway.post(REQUEST, "/jobs", Imgserve_Tag="zone-b")
    gateway.post(REQUEST)
    assert [each.tag for each in broker.asked(Submit)] == ["zone-a", "zone-b", ""]


@pytest.mark.parametrize("tag", ["a b", "x" * 65, "ä"])
def test_a_header_that_is_no_tag_is_115(broker, gateway, tag):
    """With the value seen and what is allowed."""
    answer = gateway.post(REQUEST, "/jobs", Imgserve_Tag=tag)
    assert (answer.status, answer.json["code"]) == (400, 115)
    assert "Imgserve-Tag" in answer.json["detail"]
    assert not broker.asked(Submit)


def test_the_client_names_a_tag(broker, tmp_path):
    """As an argument of submit; one that is not allowed is refused before anything is sent."""
    with Client(tmp_path / "connection.json") as client:
        client.submit(REQUEST, tag="zone-a").accepted(10)
        with pytest.raises(ProtocolError, match="tag"):
            client.submit(REQUEST, tag="a b")
    assert [each.tag for each in broker.asked(Submit)] == ["zone-a"]
