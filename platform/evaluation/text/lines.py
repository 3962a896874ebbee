"""Text files by line, and JSON in them, with errors that say where."""

import json
import re
from typing import Any

from upath import UPath

from ladder.models.errors import InputError


def load_json(text: str) -> Any:
    """The value of a JSON text; JSONDecodeError too for half a surrogate pair in a string, which is no character."""
    value = json.loads(text)
    half = re.search(r"\\u[dD][89a-fA-F]", text)  # a pair is two of them
    if half is not None:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise json.JSONDecodeError("half of a surrogate pair", text, half.start()) from error
    return value


def read_text_lines(path: UPath) -> list[str]:
    """The lines of a UTF-8 file without their ends, LF or CRLF; InputError for an empty file or other bytes."""
    content = path.read_bytes()
    if not content:
        raise InputError(f"{path} is empty: fetch the benchmark again")
    lines = []
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            lines.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, line {number}: not UTF-8 at byte {error.start + 1} of the line") from error
    return lines
