"""HTML upload forms: find the one with a file field, and write what a browser would send."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin, urlsplit

from imgserve.worker.transfers.html import Attributes, tags

# Sent only where they are checked.
_CHECKED = ("checkbox", "radio")
_ESCAPES = {'"': "%22", "\r": "%0D", "\n": "%0A"}


@dataclass(frozen=True, slots=True)
class UploadForm:
    """A form that takes a file: where it posts to, and the fields to send along.

    Args:
        origin: of the page that it stands on; nothing where there is no page.
    """

    action: str
    fields: tuple[tuple[str, str], ...] = ()
    origin: str = field(default="", compare=False)


@dataclass(slots=True)
class _OpenForm:
    action: str
    posts: bool
    id: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    has_file_field: bool = False
    # Of its first button: what a browser does when the form is sent.
    has_button: bool = False


def find_form(page: bytes, charset: str, page_url: str, field_name: str) -> UploadForm | None:
    """Find the form that holds a file field of this name.

    Args:
        page: the HTML.
        charset: its encoding as the server names it; an unknown one is read as UTF-8.
        page_url: where it was found; the action is relative to it.
        field_name: the name of the file field.

    Returns:
        The form, its action an absolute URL, or None where no such form posts.
    """
    try:
        text = page.decode(charset or "utf-8", "replace")
    except LookupError:
        text = page.decode("utf-8", "replace")
    finder = _FormFinder(field_name)
    for name, given in tags(text):
        finder.take(name, given)
    form = finder.found()
    if form is None:
        return None
    try:
        base = urljoin(page_url, finder.base)
        action = urldefrag(urljoin(base, form.action) if form.action.strip() else page_url)[0]
    except ValueError:  # what the page names is no URL
        return None
    page_parts = urlsplit(page_url)
    return UploadForm(action, tuple(form.fields), f"{page_parts.scheme}://{page_parts.netloc}")


def multipart(
    field_name: str,
    file_name: str,
    content_type: str,
    body: bytes,
    fields: tuple[tuple[str, str], ...] = (),
) -> tuple[bytes, str]:
    """Write form data with one file.

    Returns:
        The body, and its content type with the boundary.

    Source: RFC 7578, and the HTML standard's "multipart form data" for the escapes in names.
    """
    # 128 random bits: no image holds them by chance, nor can its maker know them.
    boundary = f"imgserve-{secrets.token_hex(16)}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_escape(name)}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_escape(field_name)}"; '
        f'filename="{_escape(file_name)}"\r\nContent-Type: {content_type}\r\n\r\n'
    )
    end = f"\r\n--{boundary}--\r\n"
    # Lone surrogates (from JSON's escapes) have no UTF-8; browsers send a replacement too.
    whole = b"".join((*(part.encode("utf-8", "replace") for part in parts), body, end.encode()))
    return whole, f"multipart/form-data; boundary={boundary}"


def _escape(name: str) -> str:
    for character, escape in _ESCAPES.items():
        name = name.replace(character, escape)
    return name


class _FormFinder:
    """Collects the forms of a page; inputs belong to the form that is open."""

    def __init__(self, field_name: str) -> None:
        self.base = ""
        self._field_name = field_name
        self._forms: list[_OpenForm] = []
        self._inside = False
        # Controls that name their form, which may stand after them.
        self._elsewhere: list[tuple[str, str, Attributes]] = []
        self._select: Attributes | None = None

    def found(self) -> _OpenForm | None:
        by_id: dict[str, _OpenForm] = {}
        for form in self._forms:
            if form.id:
                by_id.setdefault(form.id, form)
        for owner, tag, given in self._elsewhere:
            if owner in by_id:
                self._take_control(by_id[owner], tag, given)
        return next((form for form in self._forms if form.has_file_field and form.posts), None)

    def take(self, tag: str, given: Attributes) -> None:
        if tag == "base" and not self.base:
            self.base = given.get("href", "")
        elif tag == "/form":
            self._inside = False
        elif tag == "form" and not self._inside:
            posts = given.get("method", "").strip().lower() == "post"
            self._forms.append(_OpenForm(given.get("action", ""), posts, given.get("id", "")))
            self._inside = True
        elif tag in ("input", "button"):
            if "form" in given:
                self._elsewhere.append((given["form"], tag, given))
            elif self._inside:
                self._take_control(self._forms[-1], tag, given)
        elif tag in ("select", "option", "/select"):
            self._take_choice(tag, given)

    def _take_choice(self, tag: str, given: Attributes) -> None:
        """A choice is sent as a hidden field would be: what is selected, or the first."""
        if tag == "select":
            self._select = {key: given[key] for key in ("name", "form", "disabled") if key in given}
        elif self._select is None:
            return
        elif tag == "option":
            if "value" in given and ("value" not in self._select or "selected" in given):
                self._select["value"] = given["value"]
        else:
            chosen, self._select = self._select, None
            if "value" in chosen:
                self.take("input", chosen)

    def _take_control(self, form: _OpenForm, tag: str, given: Attributes) -> None:
        kind, name = given.get("type", "").strip().lower(), given.get("name", "")
        if (tag == "button" and kind in ("", "submit")) or kind in ("submit", "image"):
            self._take_button(form, kind, given)
        elif tag == "button" or not name or kind == "reset":
            return
        elif kind == "file":
            form.has_file_field |= name == self._field_name
        elif "disabled" not in given and (kind not in _CHECKED or "checked" in given):
            default = "on" if kind in _CHECKED else ""
            form.fields.append((name, given.get("value", default)))

    def _take_button(self, form: _OpenForm, kind: str, given: Attributes) -> None:
        """The first button is the one that is pressed (HTML standard, "default button")."""
        if form.has_button:
            return
        form.has_button = True
        form.action = given.get("formaction", form.action)
        if "formmethod" in given:
            form.posts = given["formmethod"].strip().lower() == "post"
        if name := given.get("name") if kind != "image" else None:
            form.fields.append((name, given.get("value", "")))
