"""The one exception for what a user can get wrong; the command turns it into exit code 2 and one message.

It lives with the models because every area may import from here.
"""


class InputError(ValueError):
    """Something the user gave is wrong: the message names what, what was got, what was wanted and what to do."""
