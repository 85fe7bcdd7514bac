"""HTTP POST to an upload form: to the page itself, or to what its form names."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlsplit

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.cookies import ChainCookies
from imgserve.worker.transfers.form import UploadForm, find_form, multipart
from imgserve.worker.transfers.parcel import Parcel
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.trouble import TransferFailed
from imgserve.worker.transfers.urls import Target, parse_target, redact
from imgserve.worker.transfers.web import SEE_OTHER, Answer, Web, hop

# These may pass; any other refusal may mean that the page does not take the file itself, but is
# only where the form stands.
_PASSING = frozenset({408, 425, 429})
_NOT_IMPLEMENTED = 501


class FormPost:
    """Posts results, and remembers for a while where the form of a page posts to."""

    def __init__(self, settings: TransferSettings, web: Web) -> None:
        self._web = web
        self._memory = FormMemory(settings.forms_remembered, settings.form_memory_s)

    async def upload(self, parcel: Parcel) -> None:
        """Post to the page, or to the action of its form.

        Raises:
            TransferFailed: neither took the file.
        """
        target = parcel.target
        key = (target.username, target.password, target.url, parcel.destination.field_name)
        cookies = ChainCookies()
        known = self._memory.get(key)
        if known is not None:
            if (await self._post(parcel, known, cookies)).ok:
                return
            # The form has changed, or its hidden fields were good only once.
            self._memory.forget(key)
        answer = await self._post(parcel, UploadForm(target.url), cookies)
        form = await self._find(parcel, answer, cookies)
        if form is None:
            if not answer.ok:
                raise answer.failure()
            return
        final = await self._post(parcel, form, cookies)
        if not final.ok:
            raise final.failure()
        if not cookies:  # without the page's cookies its form would be refused
            self._memory.keep(key, form)

    async def _find(
        self, parcel: Parcel, answer: Answer, cookies: ChainCookies
    ) -> UploadForm | None:
        """Find the form to post to instead, in the answer or on the page."""
        page = answer
        if _may_be_elsewhere(answer.status):
            page = await self._web.get(parcel.target, cookies)
        if not page.ok or not page.page:
            return None
        field_name = parcel.destination.field_name
        form = find_form(page.page, page.charset, page.target.url, field_name)
        # A form that names the page itself has got the file already.
        if form is None or (answer.ok and _action(parcel.target, form).url == parcel.target.url):
            return None
        return form

    async def _post(self, parcel: Parcel, form: UploadForm, cookies: ChainCookies) -> Answer:
        """Post, and look at the page that a redirect leads to: it says whether all went well."""
        destination = parcel.destination
        body, content_type = multipart(
            destination.field_name,
            destination.file_name,
            parcel.content_type,
            parcel.body,
            form.fields,
        )
        action = _action(parcel.target, form)
        headers = [f"Content-Type: {content_type}"]
        if form.origin:  # as browsers say it, and many servers ask for beside a token
            headers += [f"Origin: {form.origin}", f"Referer: {form.origin}/"]
        answer = await self._web.send(action, "POST", body, tuple(headers), cookies)
        if answer.status in SEE_OTHER and answer.redirect_url:
            page = hop(action, answer.redirect_url)
            if _has_moved(action, page, answer.status):
                raise TransferFailed(
                    f"the server answered {answer.status}: the form has moved to "
                    f"{redact(page.url)}; name that URL"
                )
            return await self._web.get(page, cookies)
        return answer


def _may_be_elsewhere(status: int) -> bool:
    return status == _NOT_IMPLEMENTED or (400 <= status < 500 and status not in _PASSING)


def _has_moved(action: Target, page: Target, status: int) -> bool:
    """Tell a redirect to the same page elsewhere, which took no file, from one to another page.

    Servers send everybody from http to https so, or to a host's full name, or to a path with a
    slash at its end.
    """
    if _without_slash(action) != _without_slash(page):
        return False
    is_same_url = action.url == page.url
    return not action.same_origin(page) or (
        status == HTTPStatus.MOVED_PERMANENTLY and not is_same_url
    )


def _without_slash(target: Target) -> tuple[str, str]:
    return target.path.rstrip("/"), urlsplit(target.url).query


def _action(page: Target, form: UploadForm) -> Target:
    action = parse_target(form.action)
    if action.scheme not in ("http", "https"):
        raise trouble.forbidden(f"the form posts to {action.scheme}, not to http or https")
    if action.same_origin(page):
        return replace(action, username=page.username, password=page.password)
    # Neither the page's credentials nor any that the page's author wrote into the action.
    return replace(action, username="", password="")


Key = tuple[str, str, str, str]


class FormMemory:
    """A bounded table of forms that forgets with time.

    Args:
        most: how many forms are kept.
        age_s: how long each is trusted.
        clock: a monotonic clock.
    """

    def __init__(
        self, most: int, age_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._age_s = age_s
        self._clock = clock
        self._forms: OrderedDict[Key, tuple[float, UploadForm]] = OrderedDict()

    def get(self, key: Key) -> UploadForm | None:
        """Return the form of a page, unless it is unknown or old."""
        since_s, form = self._forms.get(key, (float("-inf"), None))
        if self._clock() - since_s > self._age_s:
            self.forget(key)
            return None
        return form

    def keep(self, key: Key, form: UploadForm) -> None:
        """Remember a form; the one kept longest gives way."""
        self._forms[key] = (self._clock(), form)
        self._forms.move_to_end(key)
        if len(self._forms) > self._most:
            self._forms.popitem(last=False)

    def forget(self, key: Key) -> None:
        """Drop a form, known or not."""
        self._forms.pop(key, None)
