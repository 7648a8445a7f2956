"""Scenes that many plots share: how a story opens, goes out, meets someone, feels and ends."""

from collections.abc import Sequence

from storygrammar.grammar import cast
from storygrammar.grammar.teller import Source, Teller
from storygrammar.grammar.words import (
    CLOTHES,
    CLOTHES_NEWS,
    FOODS,
    GOOD,
    HOBBIES,
    KEEPSAKES,
    PASSERS_BY,
    PASSING,
    TIMES,
    TRAITS,
    WEATHERS,
    with_article,
)

# Roles that any plot may tell.
ROLES: dict[str, Source] = {
    "h": cast.character,  # the hero
    "trait": TRAITS,
    "hobby": HOBBIES,
    "c": cast.looking(CLOTHES),  # what the hero wears
    "g": cast.grown_up,  # with whom the hero lives
    "o": cast.grown_up,  # who gave the hero a thing
    "e": cast.grown_up,  # who hears of it all at the end
    "f": cast.character,  # a friend
    "f_trait": TRAITS,
    "t": cast.thing,
    "u": cast.thing,
    "d": FOODS,
    "d2": FOODS,
    "weather": WEATHERS,
    "time": TIMES,
    "p": cast.place,
    "spot": cast.spot,
    "spot2": cast.spot,
    "spot3": cast.spot,
    "good": GOOD,
}
SONGS = [f"song about {with_article(animal)}" for animal in PASSERS_BY]


def opening(s: Teller) -> None:
    """Who the hero is, with whom the hero lives, and what the hero wears and loves to do."""
    s.cast(**ROLES)
    s.tell("""
        [Once upon a time there was|Once there was|Long ago there lived|Far away there lived|There was once]
        a {trait}[| little| big| tall| small| young| strong| tiny] {h.kind} named {h}. {h} [lived
        with|loved|looked like] {h.his} {g}, [always|often] wore {c.a} and [liked|loved|wanted] to {hobby}.
    """)


def own_thing(s: Teller) -> None:
    """The hero has a thing, from someone."""
    s.tell("""
        {h} [had|owned|got] {t.a} [from|made by|bought by] {h.his} {o} and [liked|loved|hoped|wanted] to
        {t.use} it[| every day].
    """)


def old_friend(s: Teller) -> None:
    """A friend whom the hero knows."""
    s.tell("{h.His} [best|good|dear|old|new|only] friend was a {f_trait} {f.kind} named {f}.")


def meet(s: Teller) -> None:
    """The hero meets someone new."""
    s.tell("<then> {h} [met|saw|noticed|ran into] a {f_trait} {f.kind} named {f}.")


def go_out(s: Teller, company: str = "") -> None:
    """The hero goes to a place, alone or in company: " and {f}"."""
    s.paragraph()
    how = "[| together| to play]" if company else "[| alone| to play| in {h.his} {c}]"
    s.tell("One {weather} {time}, {h}" + company + " <ran> to {p}" + how + ".")
    interlude(s)


def stay_in(s: Teller) -> None:
    """A day at home."""
    s.paragraph()
    s.tell("It was a {weather} {time}, and {h} [was at home|stayed inside|was in {h.his} room].")
    interlude(s)


def interlude(s: Teller) -> None:
    """Something small happens; the end may come back to it as {seen}."""
    event = s.draw(6)
    if event == 0:
        s.cast(seen=PASSERS_BY, passing=PASSING)
        s.tell("[There was|{h} saw|{h} met] {seen.a} that {passing}.")
    elif event == 1:
        s.cast(seen=cast.counted)
        s.tell("{h} [counted|saw|drew] {seen}.")
    elif event == 2:
        s.cast(seen=FOODS)
        s.tell("{h} [ate|shared|smelled|bought] {seen.a}[| first].")
    elif event == 3:
        s.cast(seen=cast.looking(KEEPSAKES))
        s.tell("{h} [picked up|found|kept|played with] {seen.a}.")
    elif event == 4:
        s.cast(seen=SONGS)
        s.tell("{h} [sang|heard|made up|learned] {seen.a}.")
    else:
        s.cast(news=CLOTHES_NEWS)
        s.alias("seen", "c")
        s.tell("{h}'s {c} {news}.")


def feel_bad(s: Teller, who: str, feelings: Sequence[str]) -> None:
    """Someone feels bad, in a way that `feel_better` comes back to."""
    s.alias("x", who)
    s.cast(bad=feelings)
    s.tell("""
        {x} [was|felt|looked|seemed] <very>{bad}[.| and sighed.| and almost cried.| and sat down.| and
        cried.| and shook {x.his} head.| and needed a hug.| and took a deep breath.]
    """)


def feel_better(s: Teller, who: str) -> None:
    """The one who felt bad does so no more."""
    s.alias("x", who)
    s.tell("""
        [Now|At last|Soon|In the end] {x} [was|felt|looked] <very>{good}[.|, not {bad}.| and no longer
        {bad}.]
    """)


def end(s: Teller, memory: str, lesson: str) -> None:
    """How the story ends: `memory` is what the hero thinks of later, `lesson` what was learnt ("share")."""
    s.paragraph()
    if "seen" in s.roles:
        memory += "[| and the {seen}]"
    ending = s.draw(4)
    if ending == 0:
        s.tell("""
            [At dinner|The next day|Later|On Sunday|In the evening|One day later], {h} [told|wrote|sang to]
            {h.his} {e} about
        """)
        s.tell(memory + ".")
    elif ending == 1:
        s.tell("""
            [At home|Back home|In bed|That night], {h} [drew|dreamed of|sang about|thought of|smiled
            about|painted]
        """)
        s.tell(memory + "[.|. {h} still wanted to {hobby}.]")
    elif ending == 2:
        s.tell("""
            [From that day on|After that|Since then|From then on], {h} [knew|said|thought] that it is
            [good|best|wise|nice] to
        """)
        s.tell(lesson + ".")
    else:
        s.tell('"[What did you do|How was your day|Why do you smile|What is new], {h}?" asked {h.his} {e}.')
        s.tell('"It is [good|best|wise|nice] to ' + lesson + '," <answered> {h}.')
