"""The names of the benchmarks that come with ladder, for the shell's completion, which imports no benchmark.

A test holds them to the registry's.
"""

BENCHMARK_NAMES = (
    "heldout",
    "pages-last-word",
    "pages-cloze",
    "pages-words",
    "pages-bytes",
    "lambada",
    "cbt-cn",
    "cbt-ne",
    "wikitext2",
    "ptb",
    "enwik8",
    "text8",
    "wikitext103",
    "lm1b",
    "winograd",
    "coqa",
    "cnn-dailymail",
    "wmt14",
    "natural-questions",
    "sst2",
    "copa",
    "race",
    "story-cloze",
    "cola",
    "dprd",
    "cbt-cn-test",
    "cbt-ne-test",
    "lambada-preprocessed",
    "lambada-stop-words",
    "wikitext2-raw",
)
"""Every benchmark, in the registry's order."""

GROUP_NAMES = ("gpt2-paper", "gpt1", "pages", "all")
"""Every group."""
