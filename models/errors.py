"""The one exception for what a user can get wrong; the command turns it into exit code 2 and one message.

It lives with the models because every area may import from here; so does what keeps secrets out of such messages.
"""

import re

_SECRET_WORDS = "password|passwd|secret|token|key|signature|credential"
_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@'\"]+@"), "***@"),
    (re.compile(rf"(?i)([?&][\w.-]*(?:{_SECRET_WORDS})[\w.-]*=)[^&\s'\"]+"), r"\1***"),
)


class InputError(ValueError):
    """Something the user gave is wrong: the message names what, what was got, what was wanted and what to do."""


def hide_credentials(text: str) -> str:
    """The text with the user and password of each address in it cut, and what its query calls a secret.

    For all that is shown, logged or written into a report: an address of a database often holds its password.
    """
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
