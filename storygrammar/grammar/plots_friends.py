"""Plots about others: shy, cross, fast, hiding, lost, hurt, lying, mocked, moving away, teaching."""

from storygrammar.grammar import cast
from storygrammar.grammar.scenes import end, feel_bad, feel_better, go_out, meet, old_friend, own_thing
from storygrammar.grammar.teller import Forms, Teller
from storygrammar.grammar.words import AFRAID, CLOTHES, GAMES, LONELY, NUMBERS, SAD, SORRY, TRAITS, listed

INSULTS = listed("slow, silly, lazy, too loud, a baby, a cry-baby, no fun, a bad friend")
PRIZES = listed("medal, golden cup, ribbon, cake, flag, trophy, balloon, gold coin")
JUDGES = listed("judge, king, teacher, farmer, mayor, queen")
LIMBS = listed("leg, foot, arm, knee, toe, nose")
NOISES = listed("sneeze, giggle, yawn, cough, burp, snore, hiccup, laugh")
HELPERS = listed("policeman, farmer, fireman, guard, baker, doctor, postman, gardener")
BEASTS = listed("lion, wolf, goat, horse, swan, tiger, eagle, camel")
PAINS = listed("""
    thorn in its foot, net around its neck, nail in its foot, rope around its leg, bone in its throat,
    cut on its back
""")
DANGERS = listed("wolf, fire, snake, ghost, giant, bear, tiger, robber")
CROWDS = listed("people, farmers, neighbors, workers, hunters, teachers")
# What is laughed at → what it is good for.
PARTS = {
    "big ears": "heard every cry",
    "long arms": "reached far down",
    "long legs": "was there at once",
    "a loud voice": "called for help",
    "big feet": "did not slip",
    "a big nose": "smelled the way",
    "rough hands": "held on well",
    "sharp eyes": "saw everything",
}
HOLES = listed("deep hole, cold river, dark well, muddy ditch, wild stream, big pit")
FAR = listed("""
    the city, the mountains, the islands, the seaside, the far north, the desert, the big forest,
    the next valley
""")
SKILLS = listed("skate, hop on one leg, tie a bow, write a name, juggle, do a handstand, do a cartwheel, ski")


def shy(s: Teller) -> None:
    """Tell how the hero asks a newcomer, who stands alone, to play."""
    s.cast(game=GAMES)
    go_out(s)
    meet(s)
    s.tell("{f} was new and [stood|waited|sat|hid] alone {spot}.")
    feel_bad(s, "f", LONELY)
    s.tell("""
        "[Do you want to play|Would you play|Will you play] {game} with me?" <asked> {h}. "[I do not know
        how|I am not good at it|Yes, please|I would love to]," <answered> {f}. They played [until it was
        dark|for hours|all {time}], and {f} [laughed|sang|won|smiled].
    """)
    feel_better(s, "f")
    end(s, "{game} with {f}", "[ask others to play|be nice to new children|make a new friend]")


def cross_words(s: Teller) -> None:
    """Tell of a bad word and an apology: the two share a treat."""
    s.cast(insult=INSULTS)
    old_friend(s)
    go_out(s, " and {f}")
    s.tell("""
        {h} and {f} were [tired|hungry|bored|sleepy]. "You are {insult}!" <cried> {h}. {f} [turned
        around|ran home|walked off|began to cry].
    """)
    feel_bad(s, "h", SORRY)
    s.tell("""
        "[Say sorry|Go to {f}|Make it good again]," <said> {h.his} {g} [at home|that night|later|at dinner].
        {h} [took|brought|gave] {d.a} to {f}. "<sorry>. You are not {insult}," <said> {h}. {f} <smiled>, and
        they [shared|ate] the {d} [together|at once|in the sun].
    """)
    feel_better(s, "h")
    end(s, "{f} and the {d}", "say sorry[| to a friend| soon]")


def race(s: Teller) -> None:
    """Tell of a race in which a friend falls: the hero stops, or wins alone and regrets it."""
    s.cast(prize=PRIZES, limb=LIMBS, judge=JUDGES)
    old_friend(s)
    go_out(s, " and {f}")
    s.tell("There was a race to the [gate|bridge|old tree|tower] for {prize.a}.")
    for_fun = s.pick((True, False))
    if for_fun:
        s.tell("{h} [ran for fun|did not care for it|wanted to run with {f}].")
    else:
        s.tell("{h} [only thought of the {prize}|wanted to win|wanted to be first].")
    s.tell("But {f} [fell|slipped|tripped] and hurt {f.his} {limb}.")
    feel_bad(s, "f", SAD)
    if for_fun:
        s.tell("""
            {h} [stopped|turned back] and [helped {f} up|rubbed {f}'s {limb}|carried {f}]. They came in
            last. "[You are a good friend|You helped|You have a good heart]," said the {judge} and gave {h}
            the {prize}.
        """)
    else:
        s.tell("""
            {h} [won|ran on|came in first] and got the {prize}, but [nobody clapped|it felt wrong|it was no
            fun]. So {h} <ran> back to {f}. "[It is yours|You were faster|Take the {prize}]," <said> {h}.
        """)
    feel_better(s, "f")
    end(s, "{f} and the {prize}", "[help first|help more than to win|think of others]")


def hiding(s: Teller) -> None:
    """Tell of hide and seek: after looking in wrong places, the hero hears a noise."""
    s.cast(n=NUMBERS, noise=NOISES)
    old_friend(s)
    go_out(s, " and {f}")
    s.tell("""
        They played hide and seek. {h} counted to {n} and looked {spot} and {spot2}, but [nobody was
        there|{f} was not there|there was no {f}].
    """)
    feel_bad(s, "h", AFRAID)
    s.tell("""
        <suddenly> there was a [|loud |little |funny ]{noise} {spot3}. [It was {f}|It came from {f}|There
        sat {f}]! "[You found me|My {noise} gave me away|I could not stop that {noise}]!" <cried> {f}.
    """)
    feel_better(s, "h")
    end(s, "{f}'s {noise}", "[listen well|keep looking|play together]")


def lost_child(s: Teller) -> None:
    """Tell how the hero loses the grown-up and someone in uniform helps."""
    s.cast(helper=HELPERS, coat=cast.looking(CLOTHES))
    go_out(s, " and {h.his} {g}")
    s.tell("""
        {h} [ran after|looked at|stopped for|followed] a [butterfly|puppy|balloon|pigeon]. Then {g.Name} was
        gone.
    """)
    feel_bad(s, "h", AFRAID)
    s.tell("""
        {h} [waited|stood|sat] {spot}. A [nice|friendly|tall|kind] {helper} came. "[I can not find|I lost|I
        want] my {g} with the {coat.the}," <said> {h}. <then> they saw the {coat.the} {spot2}. {g.Name}
        [hugged|kissed] {h} and thanked the {helper}.
    """)
    feel_better(s, "h")
    end(s, "the {helper}", "[stay close|ask for help|wait for help]")


def thorn(s: Teller) -> None:
    """Tell how the hero helps a hurt animal, which later helps the hero."""
    s.cast(beast=BEASTS, pain=PAINS)
    own_thing(s)
    go_out(s)
    s.tell("""
        {h} [came upon|found|noticed] {beast.a} {spot}. It had a {pain} and [could not move|cried|moaned].
    """)
    feel_bad(s, "h", AFRAID)
    s.tell("""
        But {h} [gently|slowly|bravely|kindly] helped it. [The next day|Two days later|A week later|Later],
        {h} dropped the {t} in [deep|cold|fast|dark] water. The {beast} came and [brought
        back|saved|fetched] the {t.the}. "[You took care of the {pain}|Now I can help you too|You helped me
        first]," said the {beast}.
    """)
    feel_better(s, "h")
    end(s, "the {beast} and the {t.the}", "help [animals|those in pain|others]")


def false_alarm(s: Teller) -> None:
    """Tell of two lies, then of the truth that nobody believes."""
    s.cast(danger=DANGERS, crowd=CROWDS)
    go_out(s)
    s.tell("""
        {h} [was bored|wanted some fun|made a joke|liked jokes]. "[Help, {danger.a}|Come quick,
        {danger.a}|Run, {danger.a}]!" <cried> {h}. The {crowd} came running, but there was no {danger}. {h}
        [laughed|giggled] and did it again. <then> there really was {danger.a} {spot}! {h} [called|cried]
        for help, but [nobody came|nobody listened|nobody believed it|the {crowd} stayed at home].
    """)
    feel_bad(s, "h", AFRAID)
    s.tell("""
        Only {h.his} {g} [came|ran over|heard it] and [took {h} home|pulled {h} away|saved {h}]. "[I will
        never lie again|No more lies|I will tell the truth]," <said> {h}.
    """)
    feel_better(s, "h")
    end(s, "the {danger} and the {crowd}", "[be honest|tell the truth|never lie]")


def part(s: Teller) -> Forms:
    """Draw what is laughed at: {part} is "big ears", {part.deed} "heard every cry"."""
    chosen = s.pick(list(PARTS))
    return {"": chosen, "deed": PARTS[chosen]}


def mocked(s: Teller) -> None:
    """Tell how someone laughs at the hero's looks, which then save the day."""
    s.cast(hole=HOLES, part=part)
    go_out(s)
    meet(s)
    s.tell('"[Ha ha|Look|How funny]! You have {part}!" <cried> {f}.')
    feel_bad(s, "h", SAD)
    s.tell("""
        <then> {f} [fell|slipped] into a {hole}. "[Help|Help me|Get me out]!" <cried> {f}. {h} had {part},
        {part.deed} and [pulled {f} out|saved {f}|got {f} out]. "<sorry>. I wish I had {part} too," <said>
        {f}.
    """)
    feel_better(s, "h")
    end(s, "{f} in the {hole}", "[like how you look|be different|help those who laugh]")


def moving_away(s: Teller) -> None:
    """Tell how a friend moves away and leaves a thing; later a letter comes."""
    s.cast(far=FAR)
    old_friend(s)
    s.paragraph()
    s.tell('One {weather} {time} {f} said, "[We are moving to|We will go to|I must go to] {far}."')
    feel_bad(s, "h", SAD)
    s.tell("""
        {f} gave {h} {t.a}. "[When you {t.use} it, think of me|Keep it for me|Do not forget me]," <said>
        {f}. [Every day|Every night|Often|Each {time}], {h} looked at the {t.the}. [One day|In spring|After
        a month|In winter] a letter came from {far}. "[Come and visit me,|I miss you,|How are you?|Do you
        still {t.use} it?]" wrote {f}.
    """)
    feel_better(s, "h")
    end(s, "the letter from {far}", "[write letters|remember a friend|have a friend]")


def teaching(s: Teller) -> None:
    """Tell how the hero learns something from a friend, then teaches another."""
    s.cast(skill=SKILLS, k=cast.character, k_trait=TRAITS)
    old_friend(s)
    go_out(s, " and {f}")
    s.tell("""
        {f} [could|knew how to|liked to] {skill}, and {h} [tried it|tried too|wanted to learn it]. But {h}
        [fell down|gave up|hit {h.his} head|lost {h.his} {c}].
    """)
    feel_bad(s, "h", SAD)
    s.tell("""
        "[Try again|Do not give up|One more time|You can do it]!" <cried> {f}. {h} [tried again|took a deep
        breath|closed {h.his} eyes], and now {h} could {skill}!
    """)
    feel_better(s, "h")
    s.tell("""
        [Later|The next day|A week later], {h} [taught it to|explained it to|showed it to] a {k_trait}
        {k.kind} named {k}.
    """)
    end(s, "{f} and {k}", "[try again|help others learn|learn new things]")


PLOTS = (shy, cross_words, race, hiding, lost_child, thorn, false_alarm, mocked, moving_away, teaching)
