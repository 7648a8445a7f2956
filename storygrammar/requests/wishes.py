"""What can be wished of a story, and requests that wish for some of it.

"Write a story about a frog who loses a drum. Use the word brave." wishes for a kind of hero, a plot, a
thing and a word. Requests are made from stories that were told, so each can be granted.
"""

from hashlib import blake2b
from itertools import combinations
from random import Random

from storygrammar.grammar.words import with_article
from storygrammar.requests.gists import GISTS, Roles

Wishes = dict[str, str]  # kind → value: {"hero": "frog", "plot": "lost"}

ROLES = {"name": "h", "thing": "t", "place": "p", "food": "d", "friend": "f", "clothes": "c"}
ROLES |= {"weather": "weather", "hobby": "hobby", "feeling": "good"}
WEIGHTS = {"plot": 6, "word": 2, "weather": 4}  # of the kinds that take longest to learn; of others 1
HELD_OUT = 0.04  # of all pairs of wishes

PHRASES = {  # of what the first sentence of a request has no place for
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


def wishes_of(plot: str, roles: Roles, random: Random) -> Wishes:
    """One to four wishes that a story of this plot, with these roles, grants."""
    granted = {kind: roles[role][""] for kind, role in ROLES.items() if role in roles}
    granted |= {"hero": roles["h"]["kind"], "plot": plot, "ending": "well"}
    if "t" in roles:
        granted["look"] = roles["t"]["the"]
    granted["word"] = random.choice([roles["trait"][""], roles["c"]["the"].split()[0]])  # brave, or red
    [n_wishes] = random.choices((1, 2, 3, 4), weights=(1, 2, 3, 3))
    counts = [WEIGHTS.get(kind, 1) for kind in sorted(granted)]
    kinds = dict.fromkeys(random.sample(sorted(granted), n_wishes, counts=counts))
    if {"look", "thing"} <= kinds.keys():
        del kinds["thing"]  # a red drum is a drum
    return {kind: granted[kind] for kind in kinds}


def is_held_out(wishes: Wishes) -> bool:
    """Whether two of the wishes are a pair that no request of the training has.

    A hash decides it for each pair, so every wish by itself is known from training.
    """
    return any(_hash_of(repr(pair)) < HELD_OUT for pair in combinations(sorted(wishes.items()), 2))


def _hash_of(text: str) -> float:
    """Return a number in [0, 1) that is uniform over texts and the same on every machine."""
    digest = blake2b(text.encode(), digest_size=8, key=bytes(8)).digest()
    return int.from_bytes(digest, "little") / 2**64


def request(wishes: Wishes) -> str:
    """The wishes in words: "Write a story about Gus who loses a red drum. They go to the park."."""
    said, about = {"name", "hero", "plot"}, _hero(wishes)
    if "plot" in wishes:
        wish = GISTS[wishes["plot"]].wish
        thing = wishes.get("look") or wishes.get("thing")
        about += " who " + wish.format(t=with_article(thing) if thing else "something")
        said |= {"look", "thing"} if "{t}" in wish else set()
    sentences = ["Write a story." if about == "someone" else f"Write a story about {about}."]
    for kind, phrase in PHRASES.items():
        if kind in wishes and kind not in said:
            sentences.append(phrase.format(value=wishes[kind], a=with_article(wishes[kind])))
    return " ".join(sentences)


def _hero(wishes: Wishes) -> str:
    """ "a frog named Gus", or what is known of it."""
    if "hero" not in wishes:
        return wishes.get("name", "someone")
    return with_article(wishes["hero"]) + (f" named {wishes['name']}" if "name" in wishes else "")
