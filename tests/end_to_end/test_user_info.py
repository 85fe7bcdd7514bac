"""A destination's user name and password: its own submitter's reply alone shows them."""

from __future__ import annotations

from imgserve.client import Client
from imgserve.protocol.events import JobState
from tests.support import images
from tests.support.http_server import HttpServer
from tests.support.service import Service

SECRET = "top-secret"


def test_only_the_submitter_hears_its_user_info(service: Service, web: HttpServer, name: str):
    """`POST /` is exact to the key; everything that others can ask has none."""
    web.files[f"/{name}/photo.png"] = images.png()
    dst_url = web.url(f"/{name}/out.png", userinfo=f"user:{SECRET}")
    plain = web.url(f"/{name}/out.png")
    request = {
        "operationType": "resize",
        "srcURL": web.url(f"/{name}/photo.png", userinfo=f"user:{SECRET}"),
        "dstURL": dst_url,
        "args": {"width": 20, "height": 10, "method": "PUT"},
    }
    answer = service.post(request)
    assert answer.document == {"dstURL": dst_url}
    document = service.ended(answer.headers["location"])
    assert (document["state"], document["dstURL"]) == ("done", plain)
    with Client(service.connection) as client:
        assert client.submit(request, id="own").result(timeout_s=30).dst_url == dst_url
    with Client(service.connection) as other:
        found = other.find("own")
        assert isinstance(found, JobState)
        assert found.dst_url == plain
    failing = request | {"srcURL": request["srcURL"].replace("photo", "gone")}
    document = service.submit(failing)
    assert SECRET not in str(document)
    assert SECRET not in service.log_file.read_text()
