"""Words of a text: how they are counted, and the English stop words."""

STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it
    its itself they them their theirs themselves what which who whom this that these those am is are was were be been
    being have has had having do does did doing a an the and but if or because as until while of at by for with about
    against between into through during before after above below to from up down in out on off over under again further
    then once here there when where why how all any both each few more most other some such no nor not only own same so
    than too very s t can will just don should now
    """.split()
)
"""English stop words: the 127 of NLTK's list from Porter's Snowball project, as a published reproduction of the filter
has them. The GPT-2 paper does not say what list its filter used. NLTK's list gained contractions and the pieces that a
tokenizer leaves of them (179 words from 2017 on), among them "won" and "haven", which are also words that passages end
in; those are left out.
"""


def text_totals(text: str) -> dict[str, float]:
    """Words (runs of characters that are not white space), characters and bytes of UTF-8 of a text."""
    return {"words": len(text.split()), "characters": len(text), "bytes": len(text.encode())}
