"""Constraints on a story, and prompts that ask for a story that satisfies them.

"Write a story about a frog who loses a drum. Use the word brave." constrains the kind of hero, the plot, a
thing and a word. The constraints are drawn from a generated story, so they can be satisfied together.
"""

from hashlib import blake2b
from itertools import combinations
from random import Random

from storygrammar.grammar.words import with_article
from storygrammar.prompts.summaries import PLOT_SUMMARIES, Roles

# Kind → value, for example {"hero": "frog", "plot": "lost"}.
Constraints = dict[str, str]

# Kinds whose value is the plain form of a role.
ROLES = {"name": "h", "thing": "t", "place": "p", "food": "d", "friend": "f", "clothes": "c"}
ROLES |= {"weather": "weather", "hobby": "hobby", "feeling": "good"}
# Kinds that take longest to learn are drawn more often; the weight of the others is 1.
WEIGHTS = {"plot": 6, "word": 2, "weather": 4}
# Fraction of all pairs of constraints that is held out from training.
HELD_OUT_FRACTION = 0.04

# A sentence for each kind that the first sentence of a prompt cannot express.
PHRASES = {
    "thing": "There is {a} in it.",
    "look": "There is {a} in it.",
    "food": "There is {a} in it.",
    "place": "They go to {value}.",
    "friend": "The friend is {value}.",
    "clothes": "The hero wears {a}.",
    "weather": "It is a {value} day.",
    "hobby": "The hero likes to {value}.",
    "word": "Use the word {value}.",
    "feeling": "In the end the hero is {value}.",
    "ending": "It ends well.",
}
KINDS = ("name", "hero", "plot", *PHRASES)


def draw_constraints(plot: str, roles: Roles, random: Random) -> Constraints:
    """Draw one to four constraints that a story of this plot, with these roles, satisfies."""
    satisfied = {kind: roles[role][""] for kind, role in ROLES.items() if role in roles}
    satisfied |= {"hero": roles["h"]["kind"], "plot": plot, "ending": "well"}
    if "t" in roles:
        satisfied["look"] = roles["t"]["the"]
    # A trait such as "brave", or the look of the clothes such as "red".
    satisfied["word"] = random.choice([roles["trait"][""], roles["c"]["the"].split()[0]])
    [n_constraints] = random.choices((1, 2, 3, 4), weights=(1, 2, 3, 3))
    weights = [WEIGHTS.get(kind, 1) for kind in sorted(satisfied)]
    kinds = dict.fromkeys(random.sample(sorted(satisfied), n_constraints, counts=weights))
    if {"look", "thing"} <= kinds.keys():
        # "A red drum" includes "a drum".
        del kinds["thing"]
    return {kind: satisfied[kind] for kind in kinds}


def is_held_out(constraints: Constraints) -> bool:
    """Return whether two of the constraints are a pair that no training prompt has.

    A hash decides for each pair, so every single constraint occurs in training.
    """
    pairs = combinations(sorted(constraints.items()), 2)
    return any(_hash(repr(pair)) < HELD_OUT_FRACTION for pair in pairs)


def render_prompt(constraints: Constraints) -> str:
    """Return constraints as text: "Write a story about Gus who loses a red drum. Use the word brave."."""
    rendered, subject = {"name", "hero", "plot"}, _hero(constraints)
    if "plot" in constraints:
        premise = PLOT_SUMMARIES[constraints["plot"]].premise
        thing = constraints.get("look") or constraints.get("thing")
        subject += " who " + premise.format(t=with_article(thing) if thing else "something")
        rendered |= {"look", "thing"} if "{t}" in premise else set()
    sentences = ["Write a story." if subject == "someone" else f"Write a story about {subject}."]
    for kind, phrase in PHRASES.items():
        if kind in constraints and kind not in rendered:
            sentences.append(phrase.format(value=constraints[kind], a=with_article(constraints[kind])))
    return " ".join(sentences)


def _hero(constraints: Constraints) -> str:
    """Return "a frog named Gus", or what the constraints state of it."""
    if "hero" not in constraints:
        return constraints.get("name", "someone")
    name = f" named {constraints['name']}" if "name" in constraints else ""
    return with_article(constraints["hero"]) + name


def _hash(text: str) -> float:
    """Return a number in [0, 1) that is uniform over texts and the same on every machine."""
    digest = blake2b(text.encode(), digest_size=8, key=bytes(8)).digest()
    return int.from_bytes(digest, "little") / 2**64
