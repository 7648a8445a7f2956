"""Plots at home: a dark night, a seed, a cake, a noise, a pet, a picture, a mess, a wish, a cold, a party."""

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
from storygrammar.grammar.words import AFRAID, CROSS, GAMES, JOBS, LONELY, NUMBERS, SAD, SORRY, listed

NIGHTS = listed("dark, stormy, cold, windy, rainy, quiet, long, foggy")
SHAPES = listed("giant, witch, dragon, monster, pirate, ghost, bear, wolf")
TRUTHS = listed("coat on a hook, chair, broom, pile of clothes, curtain, plant, hat on a stand, row of books")
LIGHTS = listed("candle, lamp, torch, lantern, match, flashlight")
PLANTS = listed("""
    pumpkin, sunflower, melon, tulip, bean, rose, lemon, cabbage, pepper, daisy, radish, cucumber, lily,
    poppy, carrot, beet
""")
BEDS = listed("the ground, a pot, the garden, a box, a bucket, the earth, a bowl, a jar")
DISHES = listed("cake, pie, pudding, waffle, pizza, pancake, muffin, tart")
MISTAKES = listed("salt, pepper, soap, sand, mustard, chalk, vinegar, dust")
SOUNDS = [f"{sound}, {sound}" for sound in listed("scratch, knock, squeak, boom, tap, tick, click, rattle")]
CORNERS = listed("""
    in the cupboard, under the stairs, on the roof, behind the stove, in the chimney, in the attic,
    in the cellar, behind the wall
""")
GUESTS = listed("kitten, squirrel, hedgehog, owl, mouse, lizard, hamster, raccoon")
PETS = listed("puppy, kitten, hamster, parrot, goldfish, rabbit, chick, turtle")
PET_NAMES = listed("""
    Snowball, Pepper, Button, Star, Lucky, Cloud, Peanut, Ginger, Cookie, Bubbles, Socks, Marble, Pumpkin,
    Biscuit, Noodle, Sugar
""")
SUBJECTS = listed("house, horse, ship, flower, mountain, queen, train, garden, tree, cat, bridge, tiger")
COLORS = listed("red, blue, green, black, purple, brown, yellow, pink")
BLOTS = listed("sun, balloon, ladybug, hat, moon, fish, apple, butterfly, cloud, wheel, bird, heart")
MESS = listed("socks, books, blocks, cars, shirts, pens, shoes, papers, boots, games")
EVENTS = listed("trip, show, visit, party, picnic, parade")
SICKNESSES = listed("cold, cough, fever, sore throat, rash, tummy ache, headache, toothache")
CHEERS = listed("funny song, long story, silly joke, little dance, card trick, puppet show, new game, poem")
WISHES = listed("friend, brother, sister, playmate, visitor, twin")


def dark(s: Teller) -> None:
    """Tell how the hero fears a shape in the dark, and what it really is."""
    s.cast(night=NIGHTS, shape=SHAPES, truth=TRUTHS, light=LIGHTS)
    own_thing(s)
    s.paragraph()
    s.tell("""
        One {night} night, {h} [woke up|could not sleep|heard something] and saw {shape.a} [at|by|near] the
        [wall|window|door|bed].
    """)
    feel_bad(s, "h", AFRAID)
    s.tell("""
        {h} held the {t.the} [tight|close|up high]. "[There is|I see|Help,|Look,] {shape.a}!" <cried> {h}.
        {h.His} {g} came with a {light}. "[Do not fear|Look closely|See], it is {truth.a}," <said> {g.Name}.
        {h} [looked|touched it|laughed|nodded]: it was {truth.a}, no {shape}.
    """)
    feel_better(s, "h")
    end(s, "the {shape} that was {truth.a}", "[look twice|turn on a light|look closely]")


def seed(s: Teller) -> None:
    """Tell how the hero plants a seed and waits for the plant, or digs it up too early and plants again."""
    s.cast(plant=PLANTS, bed=BEDS)
    stay_in(s)
    s.tell("""
        {h} [got|took|received] {plant.a} seed from {h.his} {g}, put it into {bed} and gave it water [every
        evening|every day|twice a day|each night].
    """)
    patient = s.pick((True, False))
    if patient:
        s.tell("{h} [could wait|was in no hurry|had much time|was very patient].")
    else:
        s.tell("{h} [hated to wait|was in a hurry|wanted it to grow at once|could not wait].")
    s.tell("But [after a week|for many days|after a month] there was [nothing|no leaf|only earth] to see.")
    feel_bad(s, "h", SAD)
    if patient:
        s.tell("{h} [waited|gave it water|went on|hoped] until")
    else:
        s.tell("""
            {h} dug up the seed, and it [died|dried up|broke]. "[I did not wait|I was too fast|I spoiled
            it]," <said> {h}. With a new seed, {h} [waited|was patient|kept calm] until
        """)
    s.tell("[one morning|one day|at last|one evening] there was a [big|fine|tall|pretty] {plant}!")
    feel_better(s, "h")
    end(s, "the {plant}", "[wait|be patient|give things time]")


def cake(s: Teller) -> None:
    """Tell how one wrong ingredient spoils the baking, and how the second attempt succeeds."""
    s.cast(dish=DISHES, mistake=MISTAKES)
    stay_in(s)
    s.tell("""
        {h} [made|baked] {dish.a} for a {f_trait} {f.kind} named {f}. But instead of sugar, {h} [took|put
        in|mixed in] {mistake}. {f} [tasted|tried] it and [made a face|coughed|drank much water]. "[It
        tastes like|I can taste|This is|That was] {mistake}!" <cried> {f}.
    """)
    feel_bad(s, "h", SORRY)
    s.tell("""
        "[It happens|No problem|I did that once too|Let us start again]," <said> {h.his} {g}. They [made a
        new {dish}|tried again|began again] without {mistake}, and {f} [ate it all|wanted more|licked the
        plate|smiled].
    """)
    feel_better(s, "h")
    end(s, "the {dish} with {mistake}", "[try again|look before you mix|taste first]")


def noise(s: Teller) -> None:
    """Tell of a noise at home and its source: a guest that has no home and stays, or has one and leaves."""
    s.cast(corner=CORNERS, sound=SOUNDS, guest=GUESTS, light=LIGHTS)
    stay_in(s)
    s.tell('There was a noise {corner}: "{sound}!" {h} [stopped|listened|stood still|got up].')
    feel_bad(s, "h", AFRAID)
    s.tell("""
        {h} took a {light} and [looked|searched|peeped] {corner}. There [was|sat|stood] {guest.a}. It had
    """)
    homeless = s.pick((True, False))
    if homeless:
        s.tell("[no home|lost its home|nobody].")
    else:
        s.tell("[come in by mistake|lost its way|fallen asleep there].")
    feel_better(s, "h")
    if homeless:
        s.tell("{h} gave the {guest} {d.a}, and it stayed {corner} [for good|from then on|for ever].")
    else:
        s.tell("{h} gave the {guest} {d.a} and [brought|sent|led] it home.")
    end(s, "the {guest} {corner}", "be brave[| and look| at night]")


def pet(s: Teller) -> None:
    """Tell how the hero wishes for a pet, is refused, proves to be careful and gets it."""
    s.cast(pet=PETS, job=JOBS, name=PET_NAMES)
    stay_in(s)
    s.tell("""
        {h} [wanted|wished for|asked for|dreamed of] {pet.a}. "[A {pet} is much work|Not yet|A {pet} needs
        care|You are too small]," <said> {h.his} {g}.
    """)
    feel_bad(s, "h", SAD)
    s.tell("""
        So {h} [began|got up early|learned] to {job} every day. [After ten days|One week later|At last]
        {g.Name} came with a [|tiny |little |sleepy ]{pet}. "[You like to help|I trust you now|It is
        yours]," <said> {g.Name}. "I call it {name}!" <cried> {h}.
    """)
    feel_better(s, "h")
    s.tell("{name} [slept on|hid|liked|chewed|stole] {h}'s {c}.")
    end(s, "{name} the {pet}", "[take care of a {pet}|show that you care|help at home]")


def paint(s: Teller) -> None:
    """Tell how a drop spoils a picture and becomes the best part of it."""
    s.cast(subject=SUBJECTS, color=COLORS, blot=BLOTS)
    stay_in(s)
    s.tell("""
        {h} [painted|drew|made] {subject.a} for {h.his} {g}. [Splash|Oops|Plop]! A drop of {color} fell
        [right on|over|next to|above] the {subject}.
    """)
    feel_bad(s, "h", SAD)
    s.tell("""
        {g.Name} [looked at|pointed to|smiled at|touched] the {color} drop. "[I see|It looks like|It could
        be] {blot.a}," <said> {g.Name}. {h} [took a brush|laughed|nodded] and made a {color} {blot}. They
        hung it [on the wall|over the sofa|on the door|over the bed].
    """)
    feel_better(s, "h")
    end(s, "the {subject} and the {color} {blot}", "[make the best of it|look again|keep painting]")


def tidy(s: Teller) -> None:
    """Tell how the hero cannot find a thing in a messy room, tidies up and finds another thing, too."""
    s.cast(event=EVENTS, mess=MESS)
    own_thing(s)
    stay_in(s)
    s.tell("{h} [needed|looked for|wanted] the {t.the} for a {event}, but there were {mess} everywhere.")
    feel_bad(s, "h", CROSS)
    s.tell("""
        "[Clean up|Tidy up|Put them away]," <said> {h.his} {g}. [Under|Behind|Between] the {mess} was {u.a},
        and [next to|under|behind] it was the {t}! {h} [took|carried|brought] both to the {event}.
    """)
    feel_better(s, "h")
    end(s, "the {u.the} and the {t.the}", "[tidy up|clean your room|put things away]")


def star(s: Teller) -> None:
    """Tell how a wish upon a star comes true when someone comes who made the same wish."""
    s.cast(night=listed("clear, dark, quiet, warm, fine, long, cool, bright"), wish=WISHES, game=GAMES)
    s.paragraph()
    s.tell("""
        One {night} night, {h} saw a [falling|bright|little|golden] star and wished for a {wish}. But [in
        the morning|the next day|at sunrise] [nobody was there|nobody came|{h} was alone].
    """)
    feel_bad(s, "h", LONELY)
    go_out(s)
    meet(s)
    s.tell("""
        They played {game} {spot}. "[Last night|Once|Last week] I saw a star and wished for a {wish},"
        <said> {f}. "So did I!" <cried> {h}.
    """)
    feel_better(s, "h")
    end(s, "{f} and the star", "[make a wish|hope|believe in wishes]")


def ill(s: Teller) -> None:
    """Tell how the hero visits a sick friend with food; the next day the friend is better."""
    s.cast(sick=SICKNESSES, cheer=CHEERS)
    old_friend(s)
    s.paragraph()
    s.tell("It was a {weather} {time}, but {f} did not come [to play|out|over]. {f} had a {sick}.")
    feel_bad(s, "f", SAD)
    s.tell("""
        {h} [brought|took|gave|carried] {d.a} to {f}, who ate it [slowly|in bed|at once|all]. {h} also
        [had|knew|brought] a {cheer} for {f}, and {f} <smiled>. [The next day|After two days|Soon|On Sunday]
        the {sick} was gone.
    """)
    feel_better(s, "f")
    end(s, "{f} and the {cheer}", "[visit a sick friend|visit friends who are ill|cheer up a friend]")


def surprise(s: Teller) -> None:
    """Tell how everyone seems to forget the birthday, until the party."""
    s.cast(candles=NUMBERS)
    old_friend(s)
    s.paragraph()
    s.tell("""
        It was a {weather} {time} and {h}'s birthday, but [nobody said a word|nobody sang|there was no
        gift|nobody had time]. "[I am busy|Not now|I can not play|Go home]," <said> {f}.
    """)
    feel_bad(s, "h", LONELY)
    s.tell("""
        <then> {h} [opened the door|came home|went upstairs|turned on the light]. "Surprise!" <cried> {f}
        and {g.Name}. There were {candles} candles, {d.a} and {t.a}. "[We did not forget you|We only hid the
        {t}|You can {t.use} it now]," <said> {f}.
    """)
    feel_better(s, "h")
    end(s, "the {t.the} from {f}", "trust [your friends|{f}|a friend]")


PLOTS = (dark, seed, cake, noise, pet, paint, tidy, star, ill, surprise)
