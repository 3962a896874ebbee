"""The elements of an XML file that repeat, with the lines that they begin at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.evaluation.text.lines import read_text_lines


@dataclass(frozen=True, kw_only=True)
class Element:
    """An element as the file has it."""

    where: str
    """File and first line, for messages."""
    attributes: dict[str, str]
    """Its attributes."""
    texts: dict[str, str] = field(default_factory=dict)
    """Text of each of its parts, without space around it."""


def read_elements(path: UPath, name: str, parts: Sequence[str]) -> list[Element]:
    """The elements of a name, each with text in all `parts`; InputError names the line that is wrong."""
    elements: list[Element] = []
    pieces: list[str] = []
    parser = expat.ParserCreate()

    def start(opened: str, attributes: dict[str, str]) -> None:
        pieces.clear()
        if opened == name:
            elements.append(Element(where=f"{path}, line {parser.CurrentLineNumber}", attributes=attributes))

    def end(closed: str) -> None:
        if elements and closed in parts:
            elements[-1].texts[closed] = "".join(pieces).strip()

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, pieces.append
    try:
        parser.Parse("\n".join(read_text_lines(path)), True)
    except expat.ExpatError as error:
        raise InputError(f"{path}, line {error.lineno}: not XML: {expat.ErrorString(error.code)}") from error
    if not elements:
        raise InputError(f"{path}: wanted <{name}> elements, got none")
    for element in elements:
        absent = [part for part in parts if not element.texts.get(part)]
        if absent:
            wanted = f"wanted text in <{'>, <'.join(parts[:-1])}> and <{parts[-1]}>"
            raise InputError(f"{element.where}: {wanted}, got none in <{absent[0]}>")
    return elements
