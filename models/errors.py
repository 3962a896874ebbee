"""The one exception for what a user can get wrong; the command turns it into exit code 2 and one message.

It lives with the models because every area may import from here; so does what keeps secrets out of such messages.
"""

import difflib
import re
from collections.abc import Iterable

_SECRET_WORDS = "password|passwd|secret|token|key|signature|credential"
_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@'\"]+@"), "***@"),
    (re.compile(rf"(?i)([?&][\w.-]*(?:{_SECRET_WORDS})[\w.-]*=)[^&\s'\"]+"), r"\1***"),
)


class InputError(ValueError):
    """Something the user gave is wrong: the message names what, what was got, what was wanted and what to do."""


class PartialFailure(InputError):
    """A part of what was asked for could not be done, and the rest is done: exit code 1, as where a run fails."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` where something known is like the word, otherwise nothing."""
    near = difflib.get_close_matches(word, list(known), 2)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def hide_credentials(text: str) -> str:
    """The text with the user and password of each address in it cut, and what its query calls a secret.

    For all that is shown, logged or written into a report: an address of a database often holds its password.
    """
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
