"""Plots about things: lost, broken, shared, taken, given, found, swapped, stuck, bought, dirty, locked up."""

from storygrammar.grammar.scenes import (
    end,
    feel_bad,
    feel_better,
    go_out,
    meet,
    old_friend,
    own_thing,
    stay_in,
)
from storygrammar.grammar.teller import Teller
from storygrammar.grammar.words import CROSS, JOBS, LONELY, NUMBERS, SAD, SORRY, listed

THIEVES = listed("crow, magpie, seagull, parrot, jay, raven, squirrel, monkey")
HEIGHTS = listed("""
    in a tree, on a roof, on a tall wall, on a high branch, on a tower, on a lamp post, on a chimney,
    on a flagpole
""")
CARRIERS = listed("strong wind, naughty monkey, big bird, silly boy, sudden storm, wild goat")
HIDING_PLACES = listed("""
    under the bed, in a drawer, behind the sofa, in a box, behind the stove, under the rug, in a boot,
    under a pile of socks
""")
MESSES = listed("paint, jam, mud, soup, ink, honey, butter, sauce")
ROOMS = listed("kitchen, attic, cellar, hall, bedroom, bathroom, shed, garage")


def lost(s: Teller) -> None:
    """Tell how a thing is lost, and found where it fell."""
    own_thing(s)
    go_out(s)
    s.tell("""
        The {t} [fell down|dropped|slipped away|rolled off] {spot}, but {h} [ran on|did not see it|did not
        hear it|looked away]. <then> {h} <cried>, "[Where is my {t}?|Oh no, my {t} is gone!|I lost my {t}!]"
    """)
    feel_bad(s, "h", SAD)
    meet(s)
    s.tell("""
        They [looked|searched|went] {spot2}, but [it was not there|in vain|there was no {t}]. Then {f}
        <smiled>: {spot} was the {t.the}!
    """)
    feel_better(s, "h")
    end(s, "{f} and the {t.the}", "[look again|ask for help|take care of a {t}]")


def broken(s: Teller) -> None:
    """Tell how a friend breaks a borrowed thing and tells the truth; the thing is mended."""
    s.cast(tool=listed("glue, tape, a needle, a nail, string, wire"))
    own_thing(s)
    old_friend(s)
    stay_in(s)
    s.tell("""
        {f} [took|used|borrowed|tried] the {t}, [was not careful|dropped it|pulled too hard|tripped over
        it], and it [broke|got a crack|came apart|fell to bits].
    """)
    feel_bad(s, "f", SORRY)
    s.tell("""
        "I broke your {t}. <sorry>," <said> {f}. {h} [hugged {f}|was not angry|forgave {f}|nodded] and
        [mended|fixed|repaired] the {t.the} with {tool}.
    """)
    feel_better(s, "f")
    end(s, "{f} and the {t}", "[tell the truth|forgive a friend|mend what breaks]")


def not_shared(s: Teller) -> None:
    """Tell how the hero does not share, is lonely, and then shares."""
    own_thing(s)
    go_out(s)
    meet(s)
    s.tell("""
        "[Can I play with|May I try|Will you share|Can I have] your {t}?" <asked> {f}. "[No|Go away|Never]!
        [It is mine|It is my {t}|You might break it]," <answered> {h}. {f} [went away|left|turned around]
        and [sat|stood|hid] {spot}.
    """)
    feel_bad(s, "h", LONELY)
    s.tell("""
        {h} [gave|handed|brought] {f} the {t.the}. "[I was mean|Let us share|Take it]. You can {t.use} it,"
        <said> {h}.
    """)
    feel_better(s, "h")
    end(s, "{f} and the {t.the}", "share[| a {t}| with others]")


def taken(s: Teller) -> None:
    """Tell how a thief steals a thing and leaves it for food."""
    s.cast(thief=THIEVES)
    own_thing(s)
    go_out(s, " and {h.his} {g}")
    s.tell("""
        A [big|cheeky|loud|clever] {thief} [took|stole|grabbed|snatched] the {t} and [sat|hid] {spot}.
        "[Give it back|That is my {t}|Please stop|Come back, {thief}]!" <cried> {h}.
    """)
    feel_bad(s, "h", CROSS)
    s.tell("""
        {g.Name} [had an idea|had a plan|laughed] and put {d.a} {spot2}. The {thief} [dropped|left|forgot]
        the {t.the} and [ate|took|picked up] the {d}.
    """)
    feel_better(s, "h")
    end(s, "the {thief} and the {d}", "[stay calm|think first|be clever]")


def gift(s: Teller) -> None:
    """Tell how the hero has no birthday present, and gives the thing away."""
    s.cast(wrapping=listed("paper bag, box, basket, sack, jar, blanket"))
    own_thing(s)
    old_friend(s)
    s.paragraph()
    s.tell("It was a {weather} {time} and {f}'s birthday, but {h} had no [gift|present|surprise].")
    feel_bad(s, "h", SAD)
    s.tell("""
        "[Give something you love|Think of what {f} likes|It can be small|It can be old]," <said> {h.his}
        {g}. {h} put the {t.the} in a {wrapping} and [took|carried|brought] it to {f}. "[A {t}|Oh,
        {t.a}|Your own {t}|For me]! I will {t.use} it [every day|with you|tonight]!" <cried> {f}.
    """)
    feel_better(s, "h")
    end(s, "{f}'s birthday", "give [something you love|from the heart|a gift to a friend]")


def found_owner(s: Teller) -> None:
    """Tell how the hero finds a thing and returns it to its owner."""
    go_out(s, " and {h.his} {g}")
    s.tell("""
        {h} [saw|found|spotted] {t.a} {spot}. "[Wow, a {t}|I want to keep it|Now I have a {t}]!" <cried>
        {h}. "[Someone misses it|It is not ours|Somebody lost it]," <answered> {g.Name}. They
        [looked|went|asked] {spot2} and [found|met|saw] a {f_trait} {f.kind} named {f}.
    """)
    feel_bad(s, "f", SAD)
    s.tell("""
        "[My {t} is gone!|I lost my {t}!|Where is my {t}?]" <cried> {f}. {h} [gave|handed|brought] {f} the
        {t.the}.
    """)
    feel_better(s, "f")
    s.tell("{h} got {d.a} [as thanks|and a hug|as a reward].")
    end(s, "{f} and the {t.the}", "give back [what you find|a lost {t}|what is not yours]")


def swapped(s: Teller) -> None:
    """Tell how two friends swap their things, miss them, and swap back."""
    own_thing(s)
    old_friend(s)
    s.tell("{f} [had|owned|got] {u.a}.")
    go_out(s, " and {f}")
    s.tell("""
        "[Let us swap!|Shall we swap?|Can we trade?|I want to trade!]" <said> {f}, and they did. [At
        first|For a while|For an hour], {h} liked to {u.use} the {u}, but then {h} [missed|thought
        of|wanted] the {t.the}.
    """)
    feel_bad(s, "h", SAD)
    s.tell("""
        "I [miss|want|need] my {u.the}!" <cried> {f}. [They laughed|{h} laughed|They hugged|{h} nodded], and
        they swapped back.
    """)
    feel_better(s, "h")
    end(s, "the {u.the} of {f}", "like [what you have|your own {t}|your own things]")


def out_of_reach(s: Teller) -> None:
    """Tell how a thing is stuck high up: jumping does not help, but standing on a friend does."""
    s.cast(high=HEIGHTS, carrier=CARRIERS)
    own_thing(s)
    go_out(s)
    s.tell("""
        A {carrier} [took|carried off|grabbed] the {t} and left it {high}. {h} [jumped|climbed up|stood on
        tiptoe|took a stick], but [it was too high|it was no use|could not get it].
    """)
    feel_bad(s, "h", SAD)
    meet(s)
    s.tell("""
        "My {t} is {high}," <said> {h}. "[Climb on my back|Stand on me|I can lift you|Let me lift you]!"
        <answered> {f}. [Together they were tall|Now {h} was tall|That was high enough], and {h}
        [reached|took|got] the {t.the}.
    """)
    feel_better(s, "h")
    end(s, "the {t} {high}", "[work together|try once more|ask a friend]")


def bought(s: Teller) -> None:
    """Tell how the hero works for coins to buy a thing."""
    s.cast(coins=NUMBERS, job=JOBS)
    go_out(s, " and {h.his} {g}")
    s.tell("""
        In a [small|new|little|nice] shop {h} saw {t.a}. It cost {coins} coins, but {h} had [none|only
        one|no money].
    """)
    feel_bad(s, "h", SAD)
    s.tell("""
        "You can {job}," <said> {g.Name}. [Every evening|The next week|For many days|Every day], {h} helped
        to {job}. [At last|In the end|Finally] {h} had {coins} coins and [bought|paid for|got] the {t.the}.
    """)
    feel_better(s, "h")
    end(s, "the {t} for {coins} coins", "[work for a wish|wait and save|help at home]")


def quarrel(s: Teller) -> None:
    """Tell how two fight over a thing, fall, and take turns."""
    old_friend(s)
    go_out(s, " and {f}")
    s.tell("""
        They [saw|found|spotted] {t.a} {spot}. "[I saw it first|It is mine|Give it to me|Let go]!" <cried>
        {h}. "No, [me first|I want it|I found it]!" <cried> {f}. They [pulled|pushed|fought] until both
        [fell over|got hurt|sat in the dust].
    """)
    feel_bad(s, "h", CROSS)
    s.tell("""
        "[You can {t.use} it first|First you, then me|Let us take turns|We can share]," <said> {f}. So {h}
        had the {t.the} [for an hour|for a while|first], and {f} got it [after that|later|next].
    """)
    feel_better(s, "h")
    end(s, "{f} and the {t.the}", "take turns[| with a {t}| with friends]")


def dirty(s: Teller) -> None:
    """Tell how a thing gets dirty and is hidden; the hero admits it, and the thing is washed."""
    s.cast(mess=MESSES, hide=HIDING_PLACES)
    own_thing(s)
    stay_in(s)
    s.tell("""
        {h} [ran too fast|did not look|slipped|tripped], and the {t} fell into the {mess}. {h} hid it
        {hide}.
    """)
    feel_bad(s, "h", SORRY)
    s.tell("""
        "[Where is your {t}|Why is there {mess} on your {c}|What is wrong|Can I help]?" <asked> {g.Name} and
        looked {hide}. "[I can wash it|That can be washed|Poor {t}|What a mess]," <said> {g.Name}. They
        [rubbed|washed|scrubbed|cleaned] the {t.the} until the {mess} was gone.
    """)
    feel_better(s, "h")
    end(s, "the {t} in the {mess}", "[tell what happened|wash things|ask at once]")


def secret_box(s: Teller) -> None:
    """Tell how a key opens a box with a thing of long ago, and the story of that thing."""
    s.cast(room=ROOMS, look=listed("small, rusty, strange, tiny, golden, black, dusty, heavy"))
    stay_in(s)
    s.tell("""
        {h} [found|saw|noticed|spotted] a {look} key in the {room}. It did not fit the
        [door|window|cupboard|gate]. <then> {h} saw a [dusty|wooden|dark|heavy] box, and [click|snap|creak],
        it opened. Inside was {t.a}. "[That was my first {t}|I had that {t} as a child|I loved that {t}],"
        <said> {h.his} {g}. "I [lost|forgot|hid] the {look} key. [Now it is yours|You may keep the {t}|Take
        the {t.the}]." {h} was <very>{good} and began to {t.use} it.
    """)
    end(s, "the {t.the} in the {room}", "[open old boxes|ask about old times|look around]")


PLOTS = (
    lost, broken, not_shared, taken, gift, found_owner,
    swapped, out_of_reach, bought, quarrel, dirty, secret_box,
)  # fmt: skip
