"""Plots on the way: a nest, a tower, a boat, a picnic, a tight hole, a brave deed, a promise, a farewell."""

from storygrammar.grammar import cast
from storygrammar.grammar.scenes import end, feel_bad, feel_better, go_out, meet, old_friend
from storygrammar.grammar.teller import Teller
from storygrammar.grammar.words import AFRAID, NUMBERS, SAD, SORRY, listed

BIRDS = listed("robin, sparrow, swallow, jay, dove, finch, stork, crane")
WORKS = listed("""
    tower of blocks, hut of sticks, wall of stones, house of cards, bridge of planks, fort of pillows,
    castle of boxes, pile of cans
""")
BREAKERS = listed("big dog, strong wind, wild horse, cow, goat, storm, bull, fat cat")
WATERS = listed("lake, sea, river, pond, bay, canal")
TROUBLES = listed("a hole, no more wind, a broken oar, too much water in it, a torn sail, a bad leak")
SAVIORS = listed("whale, dolphin, swan, turtle, old fisherman, seal, otter, big fish")
BIG_ONES = listed("horse, giant, strong man, bear, elephant, policeman, cow, camel")
TREASURES = listed("key, ring, coin, watch, letter, pearl, button, nut")
TIGHT_HOLES = listed("narrow hole, thin pipe, deep crack, small gap, rabbit hole, hollow stump")
TOOLS = listed("stick, rope, magnet, spoon, hook, broom, rake, fork")
DEEDS = listed("""
    jump into the water, go down the slide, cross the bridge, ride the pony, climb the rope,
    walk on the wall, swing up high, jump over the ditch
""")
SHOWS = listed("circus, puppet show, party, parade, fair, magic show")
FLYING = listed("balloon, butterfly, firefly, ladybug, bird, soap bubble, moth, dragonfly")


def nest(s: Teller) -> None:
    """Tell how a baby bird is put back into its nest and sings as thanks."""
    s.cast(bird=BIRDS)
    go_out(s)
    s.tell("{h} [spotted|noticed|heard] a baby {bird} {spot}. It had [fallen out of|lost|left] its nest.")
    feel_bad(s, "h", SAD)
    meet(s)
    s.tell("""
        "[This {bird} needs help|I found a {bird}|This {bird} can not fly]," <said> {h}. "[I see|There is|I
        know] its nest!" <answered> {f}. {f} held [a ladder|a rope|the branch|the tree], and {h} put the
        {bird} back. It sang for {h} and {f} [every morning|every day|in the evenings|at once].
    """)
    feel_better(s, "h")
    end(s, "{f} and the baby {bird}", "help [the small|a bird|animals]")


def castle(s: Teller) -> None:
    """Tell how something is built, destroyed and built again, better."""
    s.cast(work=WORKS, breaker=BREAKERS)
    old_friend(s)
    go_out(s, " and {f}")
    s.tell("""
        They [made|built] {work.a} {spot}. <suddenly> {breaker.a} came, and the {work} [fell down|was
        gone|broke|was flat].
    """)
    feel_bad(s, "f", SAD)
    s.tell("""
        "[We can build it again|Let us make a new one|We will not give up]," <said> {h}. They made a
        [bigger|stronger|better|higher] {work} {spot2}, and the {breaker} could not [break|touch|move|hurt]
        it.
    """)
    feel_better(s, "f")
    end(s, "the {work} and the {breaker}", "[build again|start anew|work together]")


def boat(s: Teller) -> None:
    """Tell how a boat gets into trouble and is pulled to the shore."""
    s.cast(water=WATERS, trouble=TROUBLES, savior=SAVIORS)
    old_friend(s)
    s.paragraph()
    s.tell("""
        One {weather} {time}, {h} and {f} [sailed|went out|rowed] on the {water} in a
        [little|wooden|paper|tiny] boat. <then> the boat had {trouble}.
    """)
    feel_bad(s, "f", AFRAID)
    s.tell("""
        <suddenly> {savior.a} [came|swam|looked|popped] up. "[Help|Please help us|Come here]! The boat has
        {trouble}!" <cried> {h}. "[I can pull you|Hold on to me|Throw me a rope]!" <answered> the {savior}
        and pulled them [to the shore|to land|home].
    """)
    feel_better(s, "f")
    s.tell("{h} gave {d.a} to the {savior}.")
    end(s, "the {savior} on the {water}", "[check your boat|stay together|ask for help]")


def greedy(s: Teller) -> None:
    """Tell how one eats all the food and gets a tummy ache; the next time it is shared."""
    old_friend(s)
    go_out(s, " and {f}")
    s.tell("""
        {h} had {d.a}, and {f} had {d2.a}. But {h} [hid|sat down|went] {spot} and ate both. "[Where is|Who
        took|Did you see] my {d2}?" <asked> {f}. <then> {h}'s tummy [hurt|ached].
    """)
    feel_bad(s, "h", SORRY)
    s.tell("""
        "I ate the {d} and your {d2} too," <said> {h}. {f} [sat down with {h}|rubbed {h}'s tummy|hugged
        {h}|was not angry]. [The next day|Next time|On Monday], {h} gave {f} {d2.a}, and they [ate
        slowly|shared it|each ate half].
    """)
    feel_better(s, "h")
    end(s, "the {d} and the {d2}", "[eat slowly|leave some for others|share food]")


def small_helper(s: Teller) -> None:
    """Tell how someone big does not fit into a hole and someone small does."""
    s.cast(big=BIG_ONES, treasure=TREASURES, hole=TIGHT_HOLES, tool=TOOLS)
    go_out(s)
    s.tell("""
        {h} [spotted|heard|noticed] {big.a} {spot}. "My {treasure} [fell into a|is in that] {hole}!" <cried>
        the {big}. "[Let me help|I can help|I want to help]," <said> {h}. "[You are too small|Not you|No,
        little one]," <answered> the {big}.
    """)
    feel_bad(s, "h", SAD)
    s.tell("""
        The {big} tried a {tool}, but [it was no use|in vain|it broke]. Then {h} [reached|climbed|went] into
        the {hole} and got the {treasure}. "[You did it|Small is good|I was wrong|Well done]!" <cried> the
        {big} and gave {h} {d.a}.
    """)
    feel_better(s, "h")
    end(s, "the {big} and the {treasure}", "[try even if you are small|help in your own way|be small]")


def jump(s: Teller) -> None:
    """Tell how the hero is afraid to do something, until a friend holds hands."""
    s.cast(deed=DEEDS, n=NUMBERS)
    old_friend(s)
    go_out(s, " and {f}")
    s.tell("{f} [wanted|was ready|loved|asked {h}] to {deed}.")
    feel_bad(s, "h", AFRAID)
    s.tell("""
        "[It is too hard|You go first|I want to go home|I can not do it]!" <cried> {h}. "[Hold my hand|Close
        your eyes|We go together|I will help you]," <said> {f}. {h} [took {f}'s hand|screamed|smiled|counted
        to {n}] and did it. "[Again|More|Once more]! I can {deed}!" <cried> {h}.
    """)
    feel_better(s, "h")
    s.tell("They did it {n} times and [slept|rested|sat] {spot}.")
    end(s, "{f}'s help", "be brave[| together| with a friend]")


def promise(s: Teller) -> None:
    """Tell of a promise for tomorrow, sincere or not, and a temptation; it is kept or broken."""
    s.cast(show=SHOWS)
    go_out(s)
    meet(s)
    s.tell('"[I am hungry|I had no lunch|I want to eat]," <said> {f}. "I will bring you {d.a} tomorrow,"')
    earnest = s.pick((True, False))
    if earnest:
        s.tell("<answered> {h} and [meant it|shook {f}'s hand|did not forget it].")
    else:
        s.tell("<answered> {h}, but [did not mean it|did not think|was in a hurry].")
    s.tell("The next day there was a {show} [in town|close by|next door]. {f} waited {spot}.")
    if earnest:
        feel_bad(s, "f", AFRAID)
        s.tell("""
            But {h} [left|did not go to|ran past] the {show} and [brought|carried] the {d} to {f}. "[You
            came|You kept your word|There you are]!" <cried> {f}.
        """)
    else:
        s.tell("But {h} [forgot {f}|was at the {show}|did not come].")
        feel_bad(s, "f", SAD)
        s.tell("""
            [At night|Late|In the evening] {h} brought {d.a} to {f}. "<sorry>. I broke my word," <said> {h}.
        """)
    feel_better(s, "f")
    end(s, "{f} and the {d}", "keep a promise[| to a friend| always]")


def balloon(s: Teller) -> None:
    """Tell how something is let go forever, and that this is all right."""
    s.cast(free=cast.looking(FLYING))
    go_out(s, " and {h.his} {g}")
    s.tell("""
        {g.Name} gave {h} {free.a}. But when {h} [fell|sneezed|looked up|clapped], it [got away|flew
        away|was gone]. "[Come back|Do not leave me|Stay here], {free}!" <cried> {h}.
    """)
    feel_bad(s, "h", SAD)
    meet(s)
    s.tell("""
        "[I saw your {free}|It flew by|It passed me], and it looked [happy|free|beautiful|merry]," <said>
        {f}. {h} [looked up|smiled|nodded] and waved. "[Good-bye|Have fun|Fly high], {free}!" <cried> {h}.
    """)
    feel_better(s, "h")
    end(s, "the {free.the}", "let go[| of a {free}| of things]")


PLOTS = (nest, castle, boat, greedy, small_helper, jump, promise, balloon)
