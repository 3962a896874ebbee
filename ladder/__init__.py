"""ladder: scaling-law experiments on GPT-2 models, from the sweep to the report.

The package holds one link per area and no code of its own: `ladder.models` is the folder `models/`, and so on. The
links exist because a top-level package named `platform` would shadow the standard library's.
"""
