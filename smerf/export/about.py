"""What a page says of its scene: title, author and the like, as tags for browsers, search engines and messengers."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from smerf.engine.settings import require

__all__ = [
    "ICON_NAME",
    "ICON_SIDE",
    "MANIFEST_NAME",
    "POSTER_NAME",
    "POSTER_SIZE",
    "About",
    "head_tags",
    "web_manifest",
]

POSTER_NAME, ICON_NAME, MANIFEST_NAME = "poster.jpg", "icon.png", "site.webmanifest"
POSTER_SIZE, ICON_SIDE = (1200, 630), 512
_LONGEST = {"title": 120, "description": 2000, "author": 120, "date": 40, "licence": 200, "url": 500}


@dataclass(frozen=True)
class About:
    """What visitors read about a scene. Everything may be empty."""

    title: str = ""
    """Title; of the page's tab, the shared link, and the card in the page's upper left corner."""
    description: str = ""
    """A sentence or two."""
    author: str = ""
    """Who made it."""
    date: str = ""
    """When, such as 2026-05-31."""
    licence: str = ""
    """What others may do with it: a name such as CC BY 4.0, or an address."""
    url: str = ""
    """Where the page will be, with https://. Messengers show the picture of a shared link only if they know it."""

    def __post_init__(self) -> None:
        for name, longest in _LONGEST.items():
            value = getattr(self, name)
            require(
                isinstance(value, str) and len(value) <= longest, name, f"up to {longest} characters", value
            )
        address = urlsplit(self.url)
        is_address = address.scheme in ("http", "https") and bool(address.netloc)
        require(not self.url or is_address, "url", "an address such as https://example.org/flat/", self.url)


def head_tags(about: About, title: str, *, has_poster: bool, is_single: bool) -> str:
    """Return the tags of a page's head, one a line.

    Args:
        about: What is known.
        title: Title of the page, also where ``about`` has none.
        has_poster: Whether ``POSTER_NAME`` and ``ICON_NAME`` lie beside the page.
        is_single: Whether the page is one file, which refers to no other.
    """
    base = about.url if about.url.endswith((".html", "/")) or not about.url else f"{about.url}/"
    tags = [
        _meta("name", "smerf-title", about.title),
        _meta("name", "description", about.description),
        _meta("name", "author", about.author),
        _meta("name", "date", about.date),
        _meta("name", "smerf-licence", about.licence),
        _meta("property", "og:type", "website"),
        _meta("property", "og:title", title),
        _meta("property", "og:description", about.description),
        _meta("property", "og:url", base),
        _meta("name", "twitter:title", title),
        _meta("name", "twitter:description", about.description),
        _meta("name", "twitter:card", "summary_large_image" if has_poster else "summary"),
    ]
    if base:
        tags.append(f'<link rel="canonical" href="{html.escape(base)}">')
    if re.match(r"https?://", about.licence):
        tags.append(f'<link rel="license" href="{html.escape(about.licence)}">')
    if has_poster and not is_single:
        picture = urljoin(base, POSTER_NAME)
        tags += [
            _meta("property", "og:image", picture),
            _meta("property", "og:image:width", str(POSTER_SIZE[0])),
            _meta("property", "og:image:height", str(POSTER_SIZE[1])),
            _meta("property", "og:image:alt", title),
            _meta("name", "twitter:image", picture),
            f'<link rel="apple-touch-icon" href="{ICON_NAME}">',
        ]
    if not is_single:
        tags.append(f'<link rel="manifest" href="{MANIFEST_NAME}">')
    return "\n".join(tag for tag in tags if tag)


def _meta(kind: str, name: str, content: str) -> str:
    return f'<meta {kind}="{name}" content="{html.escape(content)}">' if content else ""


def web_manifest(about: About, title: str, *, has_poster: bool) -> str:
    """Return the web app manifest, by which phones put the page on their home screen."""
    icons = [{"src": "viewer/icon.svg", "sizes": "any", "type": "image/svg+xml"}]
    if has_poster:
        icons.append({"src": ICON_NAME, "sizes": f"{ICON_SIDE}x{ICON_SIDE}", "type": "image/png"})
    document = {
        "name": title,
        "short_name": title[:30],
        "description": about.description,
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#101114",
        "theme_color": "#101114",
        "icons": icons,
    }
    return json.dumps(document, ensure_ascii=False, indent=1)
