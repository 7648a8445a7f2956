"""Scenes that many plots share: the opening, going out, meeting someone, feelings and the ending."""

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
    # The hero.
    "h": cast.character,
    "trait": TRAITS,
    "hobby": HOBBIES,
    # The hero's clothes.
    "c": cast.looking(CLOTHES),
    # Grown-ups: one with whom the hero lives, one who gave the hero a thing, one who hears the story.
    "g": cast.grown_up,
    "o": cast.grown_up,
    "e": cast.grown_up,
    # A friend.
    "f": cast.character,
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
    """Tell who the hero is, with whom the hero lives, and what the hero wears and loves to do."""
    s.cast(**ROLES)
    s.tell("""
        [Once upon a time there was|Once there was|Long ago there lived|Far away there lived|There was once]
        a {trait}[| little| big| tall| small| young| strong| tiny] {h.kind} named {h}. {h} [lived
        with|loved|looked like] {h.his} {g}, [always|often] wore {c.a} and [liked|loved|wanted] to {hobby}.
    """)


def own_thing(s: Teller) -> None:
    """Tell which thing the hero has, and from whom."""
    s.tell("""
        {h} [had|owned|got] {t.a} [from|made by|bought by] {h.his} {o} and [liked|loved|hoped|wanted] to
        {t.use} it[| every day].
    """)


def old_friend(s: Teller) -> None:
    """Introduce a friend whom the hero already has."""
    s.tell("{h.His} [best|good|dear|old|new|only] friend was a {f_trait} {f.kind} named {f}.")


def meet(s: Teller) -> None:
    """Introduce someone whom the hero meets."""
    s.tell("<then> {h} [met|saw|noticed|ran into] a {f_trait} {f.kind} named {f}.")


def go_out(s: Teller, company: str = "") -> None:
    """Tell to which place the hero goes, alone or in company: " and {f}"."""
    s.paragraph()
    how = "[| together| to play]" if company else "[| alone| to play| in {h.his} {c}]"
    s.tell("One {weather} {time}, {h}" + company + " <ran> to {p}" + how + ".")
    interlude(s)


def stay_in(s: Teller) -> None:
    """Tell of a day at home."""
    s.paragraph()
    s.tell("It was a {weather} {time}, and {h} [was at home|stayed inside|was in {h.his} room].")
    interlude(s)


def interlude(s: Teller) -> None:
    """Tell a small event, which the ending may refer to as {seen}."""
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
    """Tell how someone feels bad: {bad}, which `feel_better` may refer to."""
    s.alias("x", who)
    s.cast(bad=feelings)
    s.tell("""
        {x} [was|felt|looked|seemed] <very>{bad}[.| and sighed.| and almost cried.| and sat down.| and
        cried.| and shook {x.his} head.| and needed a hug.| and took a deep breath.]
    """)


def feel_better(s: Teller, who: str) -> None:
    """Tell that the one who felt bad feels better."""
    s.alias("x", who)
    s.tell("""
        [Now|At last|Soon|In the end] {x} [was|felt|looked] <very>{good}[.|, not {bad}.| and no longer
        {bad}.]
    """)


def end(s: Teller, memory: str, lesson: str) -> None:
    """Tell the ending: `memory` is what the hero thinks of, `lesson` what was learned ("share")."""
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
