"""Each plot in a few words: templates of its premise, summary and question, filled with a story's roles."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from storygrammar.grammar.teller import Forms

Roles = Mapping[str, Forms]


class PlotSummary(NamedTuple):
    """Short templates of a plot, in which {h} and {t.a} stand for roles, as in the templates of the plot."""

    # Follows "a story about someone who"; its {t} is the constrained thing, or "something".
    premise: str
    # A sentence that begins with its subject; with `rest` it is a summary.
    clause: str
    rest: str
    question: str
    answer: str


PLOT_SUMMARIES = {
    "lost": PlotSummary(
        "loses {t}", "{h} lost {t.a}", ", and {f} found it",
        "What did {h.he} lose?", "{t.a}",
    ),
    "broken": PlotSummary(
        "has {t} that a friend breaks", "{f} broke {h}'s {t}", ", and {h} mended it with {tool}",
        "What did {f} break?", "the {t.the}",
    ),
    "not_shared": PlotSummary(
        "does not want to share {t}", "{h} did not want to share {t.a}", ", but then gave it to {f}",
        "What did {f} want to play with?", "the {t.the}",
    ),
    "taken": PlotSummary(
        "has {t} that is stolen", "{thief.a} stole {h}'s {t}", " and left it for {d.a}",
        "What did {h.his} {g} put there?", "{d.a}",
    ),
    "gift": PlotSummary(
        "gives {t} away as a gift", "{h} gave {f} {t.a}", " as a birthday gift",
        "What did {f} get?", "{t.a}",
    ),
    "found_owner": PlotSummary(
        "finds {t} and gives it back", "{h} found {t.a}", " and gave it back to {f}",
        "What did {h.he} get for it?", "{d.a}",
    ),
    "swapped": PlotSummary(
        "swaps {t} with a friend", "{h} swapped {t.a} for {u.a}", ", but then missed it",
        "What did {f} have?", "{u.a}",
    ),
    "out_of_reach": PlotSummary(
        "can not reach {t}", "{h} could not reach {t.a}", " {high}, and {f} helped",
        "Where was the {t}?", "{high}",
    ),
    "bought": PlotSummary(
        "works to buy {t}", "{h} bought {t.a}", " for {coins} coins",
        "What did {h.he} do for the coins?", "{job}",
    ),
    "quarrel": PlotSummary(
        "fights over {t}", "{h} fought over {t.a}", " with {f}, and then they took turns",
        "What did they find?", "{t.a}",
    ),
    "dirty": PlotSummary(
        "makes {t} dirty", "{h} hid {t.a}", " that fell into the {mess}, and {g.Name} washed it",
        "Where did {h.he} hide the {t}?", "{hide}",
    ),
    "secret_box": PlotSummary(
        "finds {t} in an old box", "{h} found {t.a} in a box", " that had a {look} key",
        "Where was the key?", "in the {room}",
    ),
    "shy": PlotSummary(
        "asks someone new to play", "{h} asked {f} to play {game}", ", for {f} was new",
        "What did they play?", "{game}",
    ),
    "cross_words": PlotSummary(
        "says a bad word to a friend", "{h} called {f} {insult}", " and then said sorry",
        "What did they share?", "{d.a}",
    ),
    "race": PlotSummary(
        "runs in a race", "{f} fell in a race", " for {prize.a}, and {h} helped",
        "What was the race for?", "{prize.a}",
    ),
    "hiding": PlotSummary(
        "plays hide and seek", "{h} looked for {f}", " and heard {noise.a}",
        "What did {h.he} hear?", "{noise.a}",
    ),
    "lost_child": PlotSummary(
        "gets lost", "{h} lost {h.his} {g}", ", and {helper.a} helped",
        "Who helped?", "{helper.a}",
    ),
    "thorn": PlotSummary(
        "helps an animal that is hurt", "{h} helped {beast.a}", " that had a {pain}",
        "What did the {beast} have?", "a {pain}",
    ),
    "false_alarm": PlotSummary(
        "lies for fun", "{h} lied about {danger.a}", ", and then there really was one",
        "What came in the end?", "{danger.a}",
    ),
    "mocked": PlotSummary(
        "is laughed at", "{f} laughed at {h}", " and then fell into a {hole}",
        "What did {h} have?", "{part}",
    ),
    "moving_away": PlotSummary(
        "has a friend who moves away", "{f} moved away", " to {far} and wrote a letter",
        "Where did {f} go?", "to {far}",
    ),
    "teaching": PlotSummary(
        "learns something from a friend", "{h} learned to {skill}", " from {f}",
        "What did {h.he} learn?", "to {skill}",
    ),
    "dark": PlotSummary(
        "is afraid at night", "{h} was afraid of {shape.a}", ", but it was {truth.a}",
        "What was it?", "{truth.a}",
    ),
    "seed": PlotSummary(
        "plants a seed", "{h} had to wait for {plant.a}", " to grow",
        "What did {h.he} plant?", "{plant.a}",
    ),
    "cake": PlotSummary(
        "bakes with the wrong thing", "{h} baked {dish.a} for {f}", " with {mistake} in it",
        "What was in it?", "{mistake}",
    ),
    "noise": PlotSummary(
        "hears a noise at home", "{h} found {guest.a} {corner}", " and gave it {d.a}",
        "What did {h.he} find?", "{guest.a}",
    ),
    "pet": PlotSummary(
        "wishes for a pet", "{h} got {pet.a}", " and called it {name}",
        "What is the {pet} called?", "{name}",
    ),
    "paint": PlotSummary(
        "makes a picture", "{h} made {subject.a}", " for {h.his} {g} with a {color} {blot}",
        "What was the drop of {color}?", "{blot.a}",
    ),
    "tidy": PlotSummary(
        "needs {t} in a messy room", "{h} needed {t.a} for a {event}", " and found it under the {mess}",
        "What was under the {mess}?", "{u.a}",
    ),
    "star": PlotSummary(
        "makes a wish upon a star", "{h} wished for {wish.a}", ", and then {f} came",
        "What did they play?", "{game}",
    ),
    "ill": PlotSummary(
        "visits a sick friend", "{f} had a {sick}", ", and {h} came with {d.a}",
        "What did {f} have?", "a {sick}",
    ),
    "surprise": PlotSummary(
        "has a birthday", "{h} got {t.a}", " at a birthday party",
        "How many candles were there?", "{candles}",
    ),
    "nest": PlotSummary(
        "finds a baby bird", "{h} found a baby {bird}", " and put it back with {f}",
        "What did {h.he} find?", "a baby {bird}",
    ),
    "castle": PlotSummary(
        "builds something with a friend", "{h} built {work.a} with {f}", ", but {breaker.a} came",
        "What broke it?", "{breaker.a}",
    ),
    "boat": PlotSummary(
        "goes out in a boat", "{savior.a} helped {h} and {f}", " when the boat had {trouble}",
        "What was wrong with the boat?", "{trouble}",
    ),
    "greedy": PlotSummary(
        "eats too much", "{h} ate {d.a} and {d2.a}", " without {f}",
        "What did {f} have?", "{d2.a}",
    ),
    "small_helper": PlotSummary(
        "is small and helps someone big", "{h} got {treasure.a} for {big.a}", " out of a {hole}",
        "What did {h.he} get out?", "{treasure.a}",
    ),
    "jump": PlotSummary(
        "is afraid to do something", "{h} was afraid to {deed}", ", and {f} helped",
        "What was {h} afraid to do?", "{deed}",
    ),
    "promise": PlotSummary(
        "makes a promise", "{h} promised {d.a}", " to {f}, but there was a {show}",
        "What did {h.he} promise?", "{d.a}",
    ),
    "balloon": PlotSummary(
        "has to let something go", "{h} lost {free.a}", " and waved to it",
        "What flew away?", "{free.a}",
    ),
}  # fmt: skip
# Questions about a role, for any story that tells of it.
QUESTIONS = {
    "h": ("What is the {h.kind} called?", "{h}"),
    "c": ("What did {h.he} wear?", "{c.a}"),
    "hobby": ("What did {h.he} like to do?", "{hobby}"),
    "p": ("Where did {h.he} go?", "to {p}"),
    "weather": ("What was the weather like?", "it was {weather}"),
}


def summarize(plot: str, roles: Roles) -> str:
    """Summarize the story in a sentence: "Gus lost a red drum, and Rosa found it."."""
    return fill_sentence(PLOT_SUMMARIES[plot].clause + PLOT_SUMMARIES[plot].rest, roles)


def questions_about(plot: str, roles: Roles) -> list[tuple[str, str]]:
    """Return questions about a story with their answers: "Who lost a red drum?", "Gus."."""
    plot_summary = PLOT_SUMMARIES[plot]
    # The clause begins with its subject: "{h} lost {t.a}".
    who, brace, did = plot_summary.clause.partition("}")
    who += brace
    templates = [(f"Who{did}?", who), (plot_summary.question, plot_summary.answer)]
    templates += [question for role, question in QUESTIONS.items() if role in roles]
    return [(fill(question, roles), fill_sentence(answer, roles)) for question, answer in templates]


def fill_sentence(template: str, roles: Roles) -> str:
    """Fill a template and give it a capital letter and a full stop."""
    words = fill(template, roles)
    return f"{words[0].upper()}{words[1:]}."


def fill(template: str, roles: Roles) -> str:
    """Fill a template with the words of its roles."""
    return re.sub(r"{(\w+)\.?(\w*)}", lambda slot: roles[slot[1]][slot[2]], template)
