"""A probabilistic grammar of short stories: an endless corpus whose entropy is known exactly.

`grammar` tells stories, `checker` reads them back and finds contradictions, `prompts` makes conversations
about them, `minimal_pairs` makes pairs of a right and a wrong sentence.
"""
