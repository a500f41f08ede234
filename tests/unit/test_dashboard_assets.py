"""The files of the dashboard: that they are whole, keep to themselves, and are served so that nothing else can run."""

from __future__ import annotations

import re

import pytest

from quorate.dashboard.assets import Asset, load_assets
from tests.unit.http_session import Session, run

ASSETS = load_assets()
NAMES = sorted(name for name in ASSETS if name)
FORBIDDEN = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc",
    "setTimeout(\"", "DOMParser", "createContextualFragment", "javascript:",
)  # fmt: skip
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


def text_of(name: str) -> str:
    return ASSETS[name].body.decode()


@pytest.mark.parametrize("name", NAMES)
def test_text_can_never_become_markup_and_nothing_comes_from_elsewhere(name: str) -> None:
    text = text_of(name)
    for word in FORBIDDEN:
        assert word not in text, word
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text.replace(SVG_NAMESPACE, ""))
    assert not re.findall(r"<[^>]+\s(?:on\w+|style)=", text), "the policy forbids them"
    assert len(text.splitlines()) <= 400


def test_all_that_is_named_is_there() -> None:
    page = text_of("index.html")
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    for name in NAMES:
        named |= set(re.findall(r'from "\./([^"]+)"', text_of(name)))
    assert named | {"index.html"} == set(NAMES)
    ids = set(re.findall(r'\bid="([^"]+)"', page))
    for name in NAMES:
        if name.endswith(".js"):
            used = set(re.findall(r'byId\("([^"]+)"\)', text_of(name)))
            assert used <= ids, name


def test_every_field_has_a_label() -> None:
    page = text_of("index.html")
    for field in re.findall(r"<(?:input|textarea|select)\b[^>]*>", page):
        assert re.search(r"<label[^>]*>[^<]*" + re.escape(field), page), field


def test_a_file_is_served_with_a_policy_that_lets_nothing_else_run() -> None:
    async def story(http: Session) -> None:
        for name, asset in ASSETS.items():
            reply = await http.get(f"/ui/{name}")
            assert (reply.status, reply.body) == (200, asset.body)
            assert reply.headers["Content-Type"] == asset.content_type
            policy = dict(part.strip().split(" ", 1) for part in reply.headers["Content-Security-Policy"].split(";"))
            assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            again = await http.get(f"/ui/{name}", If_None_Match=f'"other", W/{asset.etag}')
            assert (again.status, again.body) == (304, b"")
            assert again.headers["ETag"] == asset.etag

    run(story, assets=ASSETS)


@pytest.mark.parametrize(
    "path",
    ["/ui/none.js", "/ui/..", "/ui/%2e%2e%2fassets.py", "/ui/../assets.py", "/ui/__init__.py", "/ui/%00", "/ui/%ff"],
)
def test_nothing_else_is_served(path: str) -> None:
    async def story(http: Session) -> None:
        assert (await http.get(path)).status in (400, 404)

    run(story, assets={"": Asset(b"page", "text/html", '"1"')})


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_people_find_the_page(path: str) -> None:
    async def story(http: Session) -> None:
        reply = await http.get(path)
        assert (reply.status, reply.headers["Location"]) == (308, "/ui/")

    run(story, assets=ASSETS)


def test_the_page_is_behind_the_password_and_the_name_like_everything_else() -> None:
    async def story(http: Session) -> None:
        assert (await http.get("/ui/")).status == 401
        assert (await http.get("/ui/", Host="elsewhere.example")).status == 421

    run(story, assets=ASSETS, password="secret")
