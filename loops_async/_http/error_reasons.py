"""The reason in the body of an error response, whatever shape it has. No I/O.

Services, gateways and proxies write their errors in many ways:

- `{code, message}`, `{error, message, details: {reason}}`, `{error: {code, message}}`, `{error, error_code, detail}`:
  Baseten's own;
- problem+json (`title`, `detail`), JSON:API (`errors: [{title, detail}]`), GraphQL (`errors: [{message}]`), FastAPI
  (`detail: [{loc, msg}]`), OAuth (`error_description`), AWS (`__type`, `Message`), SOAP (`faultstring`);
- messages by the name of a field: `{base_model: ["..."]}`;
- a JSON string, a list, plain text, a web page, XML, a form, and a document that was cut.

No list of shapes is complete. So the search knows which names usually hold the main words and which ones more words,
and takes every other text that looks like words (with a blank in it) as well, except under the names of things that
are not for people, such as a stack trace or a copy of the request.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from attrs import frozen

from .._text import one_line

REASON_LIMIT_CHARACTERS: Final = 500
"""Characters of a reason at most: it is a part of one line."""

PAGE_LIMIT_CHARACTERS: Final = 200
"""Characters that are taken from a web page: most of a page is decoration."""

CODE_LIMIT_CHARACTERS: Final = 100
"""Characters of an error code, or of a field's name, at most."""

SEARCHED_CHARACTERS: Final = 65_536
"""Characters of a text that are searched at most."""

LIST_ITEMS_SHOWN: Final = 5
"""Items of a list of errors that are shown; the rest is counted."""

_DEPTH: Final = 20
"""Levels of a document that are searched."""

_MAIN: Final = (
    *("message", "msg", "errormessage", "errormsg", "errordescription", "faultstring", "userfriendlymessage"),
    *("messages", "errormessages", "error", "detail", "description", "reason", "text"),
)
"""Names of the main words, as `_spelling` writes them; the first that has any is taken."""

_MORE: Final = ("details", "errors", "fault", "nonfielderrors", "cause", "innererror", "exception", "hint")
"""Names of words that are added to the main ones."""

_TITLE: Final = ("title", "summary")
"""Names of a short kind of error, which stands before the words."""

_USUAL: Final = frozenset({*_MAIN, *_MORE, *_TITLE})

_FIELD: Final = ("loc", "field", "param", "parameter", "attribute", "property", "pointer", "source")
"""Names that tell which part of the request an error is about."""

_NOT_WORDS: Final = frozenset(
    {
        *("code", "errorcode", "errcode", "faultcode", "type", "status", "statuscode", "statustext", "kind", "id"),
        *("timestamp", "time", "date", "retryafter", "success", "ok", "version", "apiversion", "severity", "level"),
        *("name", "domain", "locale", "method", "instance", "target"),
    }
)
"""Names of texts that are not the reason, unless there is nothing else. An object under such a name is searched."""

_NOT_FOR_PEOPLE: Final = frozenset(
    {
        *("trace", "stack", "stacktrace", "traceback", "debug", "debuginfo", "input", "ctx", "request", "headers"),
        *("links", "link", "url", "uri", "href", "docs", "documentationurl", "helpurl", "moreinfo", "path", "location"),
        *("locations", "requestid", "traceid", "correlationid", "errorid", "useragent", *_FIELD),
    }
)
"""Names under which nothing is searched: for machines, or a copy of what was sent."""

_CODES: Final = ("code", "errorcode", "errcode", "faultcode")
_CODE_HOLDERS: Final = ("error", "errors", "fault", "detail", "exception", "extensions", "status")
_NO_CODES: Final = frozenset({"", "about:blank", "error", "fail", "failed", "failure"})

_IS_MARKUP = re.compile(r"\s*<(?:[!?]|/?[A-Za-z])")
_IS_PAGE = re.compile(r"<(?:!doctype\s+html|html|head|body|title|h[1-6]|p|div|center|pre)\b", re.IGNORECASE)
# Each of these ends at the text's end as well, so that none of them is searched twice.
_NO_TEXT = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style|title)\b.*?(?:</\1\b[^<>]*>|\Z)", re.IGNORECASE | re.DOTALL)
_TITLE_OF_PAGE = re.compile(r"<title\b[^<>]*>([^<]*)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>?")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)
_XML_TEXT = re.compile(r"<(?:\w+:)?(\w+)\b[^<>]*>([^<>]+)</")
_IS_FORM = re.compile(r"[\w.-]+=[^\s&=]+(?:&[\w.-]+=[^\s&=]*)+")
_JSON_STRING = re.compile(r'"(\w+)"\s*:\s*"((?:[^"\\]|\\.)*)')


@frozen
class Reason:
    """What an error body says."""

    code: str | None
    """The service's own error code, or None."""
    message: str
    """The reason in words, as one line; empty if there is none."""


def reason_of_document(document: object, status: int) -> Reason:
    """Return the code and the reason in a JSON *document* that came with the HTTP *status*."""
    return Reason(_code_of(document, status), one_line(_words(document), REASON_LIMIT_CHARACTERS))


def reason_of_text(text: str, status: int) -> Reason:
    """Return the code and the reason in a body that is no JSON: plain text, a web page, XML, or JSON that was cut."""
    text = text[:SEARCHED_CHARACTERS]
    fields: dict[str, object] = {}
    if text.lstrip()[:1] in {"{", "["}:
        for name, value in _JSON_STRING.findall(text):
            fields.setdefault(_spelling(name), _unescaped(value))
    elif _IS_FORM.fullmatch(text.strip()):
        fields.update(parse_qsl(text.strip()))
    elif _IS_MARKUP.match(text) and not _IS_PAGE.search(text):
        return Reason(_code_of(_xml_fields(text), status), one_line(_words(text), REASON_LIMIT_CHARACTERS))
    return Reason(_code_of(fields, status), one_line(_words(fields) or _words(text), REASON_LIMIT_CHARACTERS))


def _spelling(name: str) -> str:
    """Return *name* as the tables above spell it: `errorMessage`, `error_message` and `Error-Message` agree."""
    return re.sub(r"[\W_]", "", name.lower())


def _words(value: object, depth: int = 0) -> str:
    """Return what people can read in *value*, which is a part of a JSON document."""
    if depth > _DEPTH:
        return ""
    if isinstance(value, str):
        return _words_of_text(value, depth)
    if isinstance(value, list):
        return _words_of_list(value, depth)
    return _words_of_object(value, depth) if isinstance(value, dict) else ""


def _words_of_list(items: list[object], depth: int) -> str:
    found: dict[str, None] = {}
    for number, item in enumerate(items):
        if len(found) == LIST_ITEMS_SHOWN:
            return f"{'; '.join(found)}; and {len(items) - number} more"
        if words := _words(item, depth + 1):
            found[words] = None
    return "; ".join(found)


def _words_of_object(value: dict[str, object], depth: int) -> str:
    fields = _fields_of(value)
    names = {_spelling(name): name for name in reversed(value)}
    # Each value is searched once, so that a deep document takes no more time than a flat one.
    texts = {
        name: words for name, each in fields.items() if not _is_noise(name, each) and (words := _words(each, depth + 1))
    }
    title = next((texts[name] for name in _TITLE if name in texts), "")
    others = [name for name in texts if name not in _USUAL]
    said = [texts[name] for name in (*_MAIN, *_MORE) if name in texts]
    named = {name: f"{names[name]}: {texts[name]}".removeprefix(": ") for name in others}
    said += [named[name] for name in others if not _is_code(fields[name])]
    if _is_code(fields.get("error")) and len(dict.fromkeys(said)) > 1:
        # As in {"error": "conflict", "message": "..."}: it is the error's code.
        said = [each for each in said if each != fields["error"]]
    if not said and not title:
        said = ["; ".join(named.values())]
    if not any(said) and not title:
        said = [each for name, each in fields.items() if isinstance(each, str) and name in _NOT_WORDS and " " in each]
    text, *more = said or [title]
    for each in more:
        if len(text) > REASON_LIMIT_CHARACTERS:
            break
        if text.lower() in each.lower():
            text = each
        elif each.lower() not in text.lower():
            text = f"{text} ({each})"
    if title.lower() not in text.lower():
        text = f"{title}: {text}"
    where = _field_of(fields)
    return f"{where}: {text}" if where and text and not text.startswith(where) else text


def _fields_of(value: dict[str, object]) -> dict[str, object]:
    """Return the fields of an object by the spelling of the tables above; the first of two alike is taken."""
    fields: dict[str, object] = {}
    for name, each in value.items():
        fields.setdefault(_spelling(name), each)
    return fields


def _is_noise(name: str, value: object) -> bool:
    return name in _NOT_FOR_PEOPLE or (name in _NOT_WORDS and not isinstance(value, (dict, list)))


def _is_code(value: object) -> bool:
    return isinstance(value, str) and bool(value) and not re.search(r"\s", value.strip())


def _field_of(fields: Mapping[str, object]) -> str:
    for name in _FIELD:
        value = fields.get(name)
        if name == "source" and isinstance(value, dict):
            value = value.get("pointer") or value.get("parameter")
        if isinstance(value, list):
            value = ".".join(str(part) for part in value if isinstance(part, (str, int)))
        if _is_code(value):
            return one_line(str(value), CODE_LIMIT_CHARACTERS)
    return ""


def _words_of_text(text: str, depth: int) -> str:
    text = text[:SEARCHED_CHARACTERS].removeprefix("\ufeff")
    if text.lstrip()[:1] in {"{", "["}:
        # Gateways put the document of the service behind them into a string of their own.
        try:
            return _words(json.loads(text), depth + 1) or text
        except (ValueError, RecursionError):
            return text
    if not _IS_MARKUP.match(text):
        return text
    if _IS_PAGE.search(text):
        return _words_of_page(text)
    fields = {name: each for name, each in _xml_fields(text).items() if name in _USUAL}
    return _words_of_object(fields, depth) or _without_tags(text)


def _words_of_page(text: str) -> str:
    title = _TITLE_OF_PAGE.search(text)
    head = one_line(html.unescape(title[1])) if title else ""
    body = one_line(_without_tags(_NO_TEXT.sub(" ", text)), PAGE_LIMIT_CHARACTERS)
    return f"{head}: {body}" if head and body and head not in body else body or head


def _without_tags(text: str) -> str:
    return html.unescape(_TAG.sub(" ", _CDATA.sub(_escaped, text)))


def _xml_fields(text: str) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in _XML_TEXT.findall(_CDATA.sub(_escaped, text)):
        if value.strip():
            fields.setdefault(_spelling(name), html.unescape(value))
    return fields


def _escaped(match: re.Match[str]) -> str:
    return html.escape(match[1])


def _unescaped(value: str) -> str:
    try:
        return str(json.loads(f'"{value}"', strict=False))
    except ValueError:
        return value


def _code_of(document: object, status: int) -> str | None:
    """Return the error code in *document*: the innermost one that says more than the HTTP *status* does."""
    levels: list[dict[str, object]] = []
    _collect_levels(document, levels, 0)
    found: list[object] = []
    for level in reversed(levels):
        found += [level.get(name) for name in _CODES]
    for level in reversed(levels):
        if len(_USUAL.intersection(level)) > 1 and _is_code(level.get("error")):
            # As in {"error": "conflict", "message": "..."}.
            found.append(level["error"])
        if "loc" not in level and isinstance(kind := level.get("type"), str):
            # AWS writes "com.amazon.service#ThrottlingException".
            found.append(kind.rpartition("#")[2] or kind)
        if isinstance(name := level.get("status"), str) and name.isupper():
            found.append(name)
    codes = [
        one_line(str(each), CODE_LIMIT_CHARACTERS)
        for each in found
        if isinstance(each, (str, int)) and not isinstance(each, bool) and str(each).lower() not in _NO_CODES
    ]
    return next((code for code in codes if code != str(status)), next(iter(codes), None))


def _collect_levels(value: object, levels: list[dict[str, object]], depth: int) -> None:
    if isinstance(value, list):
        value = next((each for each in value if isinstance(each, dict)), None)
    if isinstance(value, dict) and depth <= _DEPTH:
        fields = _fields_of(value)
        levels.append(fields)
        for name in _CODE_HOLDERS:
            _collect_levels(fields.get(name), levels, depth + 1)
