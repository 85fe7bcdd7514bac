"""HTTP POST: form data, and the search for the form's action."""

from __future__ import annotations

import asyncio

import pytest

from imgserve.errors import DestinationForbidden, UploadFailed
from imgserve.request import Destination, Method
from imgserve.worker.transfers import Transfers
from imgserve.worker.transfers.form import UploadForm
from imgserve.worker.transfers.post import FormMemory
from tests.support.http_server import HttpServer, Reply
from tests.support.multipart import Part
from tests.worker.transfers.running import OPEN, upload

BODY = bytes(range(256)) + b"\r\n--\r\n"


def page(server: HttpServer, path: str = "/page.html", name: str = "a.png") -> Destination:
    return Destination(server.url(path), Method.POST, "image", name)


@pytest.mark.parametrize(
    ("name", "sent"),
    [("a.png", "a.png"), ("ü 漢.png", "ü 漢.png"), ('a"b\r\n.png', "a%22b%0D%0A.png")],
)
def test_a_page_that_takes_posts_gets_the_file(server: HttpServer, name: str, sent: str) -> None:
    """The file goes to the page itself, its name as a browser would write it."""
    upload(page(server, name=name), BODY)
    assert server.posted == [("/page.html", [Part("image", sent, "image/png", BODY)])]
    assert [request.method for request in server.requests] == ["POST"]


@pytest.mark.parametrize("action", ["/take", "take", "take?x=1#part", "//{host}/take"])
def test_the_action_of_the_form_is_found(server: HttpServer, action: str) -> None:
    """Where the page takes no POST, its form's action does, with the hidden fields."""
    hidden = '<input type="hidden" name="token" value="t&amp;1">'
    action = action.format(host=f"127.0.0.1:{server.port}")
    server.upload_page("/page.html", action, "image", hidden)
    upload(page(server), BODY)
    parts = [Part("token", None, "", b"t&1"), Part("image", "a.png", "image/png", BODY)]
    assert server.posted == [("/take", parts)]
    assert [request.method for request in server.requests] == ["POST", "GET", "POST"]


def test_an_html_answer_with_another_action_is_followed_there(server: HttpServer) -> None:
    """A page that answers a POST with its form again has not taken the file."""
    server.upload_page("/other", "/take", "image")
    html = {"Content-Type": "text/html"}
    server.script["/page.html"] = [Reply(200, html, server.files["/other"])]
    upload(page(server), BODY)
    assert [path for path, _ in server.posted] == ["/take"]


@pytest.mark.parametrize("action", ["", "/page.html", "#top"])
def test_an_html_answer_whose_form_names_the_page_is_success(
    server: HttpServer, action: str
) -> None:
    """A page that thanks above its own form has taken the file."""
    server.upload_page("/other", action, "image")
    html = {"Content-Type": "text/html"}
    server.script["/page.html"] = [Reply(200, html, server.files["/other"])]
    upload(page(server), BODY)
    assert len(server.requests) == 1


def test_the_form_is_remembered(server: HttpServer) -> None:
    """The second upload to a page goes straight to its action."""
    server.upload_page("/page.html", "/take", "image")

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for name in ("a.png", "b.png"):
                await transfers.upload(page(server, name=name), BODY, content_type="image/png")

    asyncio.run(run())
    assert [request.path for request in server.requests] == [
        "/page.html", "/page.html", "/take", "/take",
    ]  # fmt: skip


def test_a_remembered_form_that_fails_is_read_again(server: HttpServer) -> None:
    """When the action has moved, the page is asked once more."""
    server.upload_page("/page.html", "/take", "image")

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            await transfers.upload(page(server), BODY, content_type="image/png")
            server.upload_page("/page.html", "/new", "image")
            server.script["/take"] = [Reply(403)]
            await transfers.upload(page(server), BODY, content_type="image/png")

    asyncio.run(run())
    assert [path for path, _ in server.posted] == ["/take", "/new"]


def test_a_form_with_another_field_is_not_used(server: HttpServer) -> None:
    """Without a form that holds the file field, the page's own answer is the result."""
    server.upload_page("/page.html", "/take", "other")
    with pytest.raises(UploadFailed, match="405 Method Not Allowed"):
        upload(page(server), BODY)
    assert server.posted == []


def test_the_right_form_among_several_is_used(server: HttpServer) -> None:
    """Search forms and forms with other fields are passed over, hidden fields stay with theirs."""
    server.files["/page.html"] = b"""
        <form action=/search><input type=hidden name=q value=1><input type=file name=image></form>
        <form method=POST action=/wrong><input type=file name=other></form>
        <form method=POST action=/take><INPUT TYPE=FILE NAME=image></form>"""
    server.content_types["/page.html"] = "text/html"
    upload(page(server), BODY)
    assert [(path, len(parts)) for path, parts in server.posted] == [("/take", 1)]


def test_credentials_reach_no_other_origin(server: HttpServer) -> None:
    """The page's user name and password go to an action of the same origin only."""
    server.credentials = ("user", "secret")
    with HttpServer() as other:
        server.upload_page("/page.html", other.url("/take"), "image")
        destination = Destination(
            server.url("/page.html", userinfo="user:secret"), Method.POST, "image", "a.png"
        )
        upload(destination, BODY)
        sent = ["authorization" in request.headers for request in server.requests]
        assert sent == [False, True, True]  # the first is asked for them
        assert [request.path for request in other.requests] == ["/take"]
        assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize("action", ["ftp://127.0.0.1/take", "javascript:send()", "file:///tmp/x"])
def test_an_action_of_another_scheme_is_forbidden(server: HttpServer, action: str) -> None:
    """A form cannot turn an HTTP upload into something else."""
    server.upload_page("/page.html", action, "image")
    with pytest.raises(DestinationForbidden):
        upload(page(server), BODY)


def test_the_memory_of_forms_is_bounded_and_forgets() -> None:
    """The one kept longest gives way, and every one expires."""
    now_s = 0.0
    memory = FormMemory(2, 10, lambda: now_s)
    keys = [("", f"http://h/{index}", "image") for index in range(3)]
    for key in keys:
        memory.keep(key, UploadForm(key[1]))
    assert [memory.get(key) is not None for key in keys] == [False, True, True]
    now_s = 10.0
    assert memory.get(keys[2]) is not None
    now_s = 10.1
    assert memory.get(keys[2]) is None


HTML = {"Content-Type": "text/html"}


@pytest.mark.parametrize("status", [301, 302, 303])
def test_post_redirect_get_is_success(server: HttpServer, status: int) -> None:
    """The page that it leads to says that all went well."""
    server.script["/page.html"] = [Reply(status, {"Location": "/thanks", "Set-Cookie": "a=b"})]
    server.files["/thanks"] = b"thank you"
    upload(page(server), BODY)
    assert [(each.method, each.path) for each in server.requests] == [
        ("POST", "/page.html"), ("GET", "/thanks"),
    ]  # fmt: skip
    assert server.requests[-1].headers["cookie"] == "a=b"
    assert not server.requests[-1].body


@pytest.mark.parametrize(("status", "then"), [(302, 404), (303, 500), (307, 200), (308, 200)])
def test_redirect_that_ends_badly_is_no_success(server: HttpServer, status: int, then: int) -> None:
    """The last answer counts; 307 and 308 would have the file sent once more."""
    server.script["/page.html"] = [Reply(status, {"Location": "/then"})]
    server.script["/then"] = [Reply(then)]
    with pytest.raises(UploadFailed):
        upload(page(server), BODY)


@pytest.mark.parametrize(
    ("status", "path"), [(301, "/page.html"), (302, "/page.html"), (301, "/page.html/")]
)
def test_form_that_has_moved_has_taken_nothing(server: HttpServer, status: int, path: str) -> None:
    """As when everybody is sent to https: the page there answers 200 to a GET all the same."""
    with HttpServer() as other:
        there = server if path.endswith("/") else other
        there.files[path] = b"welcome"
        server.script["/page.html"] = [Reply(status, {"Location": there.url(path + "?")})]
        with pytest.raises(
            UploadFailed, match=f"the form has moved to {there.url(path)};"
        ) as caught:
            upload(page(server), BODY)
    assert not caught.value.retryable


def test_redirect_after_a_post_stays_within_policy(server: HttpServer) -> None:
    """It leads to a denied address, to another scheme, or for ever in a circle."""
    for location, error in (
        ("http://169.254.169.254/", DestinationForbidden),
        ("file:///etc/passwd", DestinationForbidden),
        ("/circle", UploadFailed),
    ):
        server.script["/page.html"] = [Reply(303, {"Location": location})]
        server.script["/circle"] = [Reply(303, {"Location": "/circle"})]
        with pytest.raises(error):
            upload(page(server), BODY)
    assert sum(each.path == "/circle" for each in server.requests) <= 6


def test_form_page_that_redirects_for_ever_is_given_up(server: HttpServer) -> None:
    """Also where it is only asked for its form."""
    server.script["/page.html"] = [Reply(405), Reply(302, {"Location": "/circle"})]
    server.script["/circle"] = [Reply(302, {"Location": "/circle", "Set-Cookie": "a=b"})]
    with pytest.raises(UploadFailed, match="redirects more often than is allowed") as caught:
        upload(page(server), BODY)
    assert not caught.value.retryable
    assert len(server.requests) <= 1 + OPEN.max_redirects + 1


def refusing(server: HttpServer, status: int, html: str, kind: str = "text/html") -> None:
    """A page that refuses a POST and has a form."""
    headers = {"Content-Type": kind, "Set-Cookie": "csrf=abc; Path=/"}
    server.script["/page.html"] = [Reply(status), Reply(200, headers, html.encode())]


@pytest.mark.parametrize("status", [400, 403, 404, 405, 415, 422, 501])
@pytest.mark.parametrize(
    ("html", "hidden"),
    [
        (
            (
                '<form method=post action="/take"><input type=hidden name=t value=1>'
                "<input type=file name=image></form>"
            ),
            [("t", "1")],
        ),
        (
            (
                '<input type=file name=image form=f><form id=f method=post action="/take"></form>'
                "<input type=hidden name=t value=1 form=f>"
            ),
            [("t", "1")],
        ),
        (
            (
                '<form method=post action="/wrong"><input type=file name=image>'
                '<button formaction="/take" name=go value=yes>Send</button></form>'
            ),
            [("go", "yes")],
        ),
        (
            (
                '<form action="/wrong"><input type=file name=image>'
                '<input type=submit formaction="/take" formmethod=post></form>'
            ),
            [],
        ),
    ],
)
def test_form_is_found_where_the_page_refuses_the_file(
    server: HttpServer, status: int, html: str, hidden: list[tuple[str, str]]
) -> None:
    """Whatever the refusal; the form's button and the page's cookies go along."""
    refusing(server, status, html)
    upload(page(server), BODY)
    ((path, parts),) = server.posted
    assert path == "/take"
    assert [(part.name, part.body.decode()) for part in parts if not part.file_name] == hidden
    headers = server.requests[-1].headers
    assert headers["cookie"] == "csrf=abc"
    assert headers["origin"] == server.url("")
    assert headers["referer"] == server.url("/")


def test_form_of_an_xhtml_page_is_found(server: HttpServer) -> None:
    """Browsers submit it all the same."""
    form = '<form method="post" action="/take"><input type="file" name="image"/></form>'
    refusing(server, 405, f"<?xml version='1.0'?><html>{form}</html>", "application/xhtml+xml")
    upload(page(server), BODY)
    assert [path for path, _ in server.posted] == ["/take"]


def test_form_of_a_page_that_has_moved_is_found(server: HttpServer) -> None:
    """Its action is relative to where it is now."""
    server.script["/page.html"] = [Reply(405), Reply(302, {"Location": "/new/page.html"})]
    server.upload_page("/new/page.html", "take", "image")
    upload(page(server), BODY)
    assert [path for path, _ in server.posted] == ["/new/take"]


def test_status_that_may_pass_has_no_form_looked_for(server: HttpServer) -> None:
    """It is tried again instead; 501 is not, which never passes."""
    server.script["/page.html"] = [Reply(429)]
    with pytest.raises(UploadFailed) as caught:
        upload(page(server), BODY)
    assert caught.value.retryable
    assert [each.method for each in server.requests] == ["POST"]
    server.script["/page.html"] = [Reply(501)]
    with pytest.raises(UploadFailed) as caught:
        upload(page(server), BODY)
    assert not caught.value.retryable


def test_remembered_form_is_of_one_user_alone(server: HttpServer) -> None:
    """Another password finds the page's form by itself."""

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for userinfo in ("u:right", "u:wrong"):
                destination = Destination(
                    server.url("/page.html", userinfo=userinfo), Method.POST, "image", "a.png"
                )
                await transfers.upload(destination, BODY, content_type="image/png")

    server.upload_page("/page.html", "/take", "image")
    asyncio.run(run())
    assert [each.method for each in server.requests] == ["POST", "GET", "POST"] * 2
