"""URLs in one normal form, so that the links of many submissions and the records of an archive meet.

The form: `&amp;` and its like unescaped; http or https only; host in lower case without `www.`, a default port or a
user name; no scheme and no fragment; `utm_*` parameters dropped, the others in their order; no slash or question
mark at the end. It matched every wanted page of the real sample. The order of parameters and upper case in paths
stay: servers tell them apart.
"""

import functools
import hashlib
import html
import re

_BAD = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]|\s")
_HOST = re.compile(r"(?!-)[^\W_A-Z](?:[\w-]*\w)?(?:\.[\w-]+)+", re.ASCII)
_LONGEST = 4096
HASH_BITS = 64


def canonicalize(url: str) -> str | None:
    """The normal form of a URL, which starts with its host; None for what is no URL of a web page.

    None: another scheme than http or https, white space or control characters, no host with a dot, a port that is no
    number, more than 4,096 characters.
    """
    if "&" in url:
        url = html.unescape(url)
    url = url.strip()
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https") or len(url) > _LONGEST:
        return None
    rest = rest.partition("#")[0]
    if _BAD.search(rest):
        return None
    end = _end_of_host(rest)
    host = canonical_host(rest[:end])
    if host is None:
        return None
    path, mark, query = rest[end:].partition("?")
    if mark and "utm_" in query:
        query = "&".join(part for part in query.split("&") if not part.lower().startswith("utm_"))
    return (host + path + (f"?{query}" if query else "")).rstrip("/?")


@functools.lru_cache(maxsize=1 << 16)  # a few hosts have most links
def canonical_host(authority: str) -> str | None:
    """The host of `user@www.Host:80` in the normal form, here `host`; None where it is no host name or address."""
    host = authority.rpartition("@")[2].lower()
    host, colon, port = host.partition(":")
    if colon and port not in ("", "80", "443"):
        if not (port.isascii() and port.isdigit()):
            return None
        colon, port = ":", port
    else:
        colon = port = ""
    host = host.rstrip(".").removeprefix("www.")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return host + colon + port if _HOST.fullmatch(host) else None


def host_of(key: str) -> str:
    """The host, without its port, of a URL in the normal form."""
    return key[: _end_of_host(key)].partition(":")[0]


def hash_key(key: str) -> int:
    """64 bits of BLAKE2b of a URL in the normal form: the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _end_of_host(rest: str) -> int:
    slash = rest.find("/")
    query = rest.find("?", 0, slash if slash >= 0 else len(rest))
    return query if query >= 0 else slash if slash >= 0 else len(rest)
