"""Small language models, from text to stories: corpus → tokens → model → training → text."""
