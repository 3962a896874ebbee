"""The fields of a submission that decide about its link, for msgspec, which skips all others.

A module of its own because it cannot be imported without the extra `web`.
"""

import msgspec


class Submission(msgspec.Struct, gc=False):
    """One line of a dump; types are those of any year, absent fields are None."""

    score: int
    """Up-votes minus down-votes at `retrieved_on`."""
    url: str | None = None
    """The link, HTML-escaped as Reddit wrote it."""
    domain: str | None = None
    """The link's host; `self.<subreddit>` for a self post."""
    is_self: bool | None = None
    """Whether the post has text instead of a link; not to be relied on alone."""
    over_18: bool | None = None
    """Whether it was marked as not safe for work."""
    created_utc: int | float | str | None = None
    """Seconds since 1970: a number, or in 2014 a string."""
    retrieved_on: int | float | str | None = None
    """Seconds since 1970 when the dump was taken; absent in some."""
    subreddit: str | None = None
    """Where it was posted."""
    id: str | None = None
    """Its name on Reddit: base 36, no number."""
