"""The words of the stories: names, animals, things, places and food that a three-year-old knows."""


def listed(words: str) -> list[str]:
    """Split a list of words: "hat, straw hat" → ["hat", "straw hat"]."""
    return [" ".join(entry.split()) for entry in words.split(",")]


def with_article(words: str) -> str:
    """Add the indefinite article: "old hat" → "an old hat"."""
    return ("an " if words[0] in "aeio" else "a ") + words


GIRLS = listed("""
    Lily, Mia, Anna, Sue, Lucy, Emma, Zoe, Ella, Rosa, Nina, Ruby, Amy, Molly, Kate, Daisy, Nora, Ivy, Eva,
    Jane, Clara, Alice, Sara, Maya, Julia, Lena, Grace, Hazel, Iris, June, Tara, Wendy, Mary
""")
BOYS = listed("""
    Tom, Ben, Max, Sam, Tim, Leo, Jack, Finn, Noah, Luke, Jim, Dan, Owen, Omar, Theo, Hugo, Adam, Nick,
    Paul, Ray, Bob, Carl, Eric, Fred, George, Henry, Ian, Joe, Kevin, Mark, Peter, Will
""")
SHE_ANIMALS = listed("""
    Dot, Coco, Honey, Fern, Bella, Poppy, Tilly, Misty, Candy, Dolly, Flora, Goldie, Jenny, Luna, Pearl,
    Sunny
""")
HE_ANIMALS = listed("""
    Pip, Rusty, Patch, Bruno, Teddy, Oscar, Fuzzy, Hopper, Benny, Chip, Dusty, Felix, Gus, Milo, Sandy,
    Ziggy
""")

ANIMALS = listed("""
    rabbit, bear, fox, mouse, duck, frog, squirrel, hedgehog, kitten, puppy, owl, turtle, pig, lamb, pony,
    goose, mole, beaver, otter, monkey, donkey, hen, deer, badger
""")

GROWN_UPS = listed("mom, dad, grandma, grandpa, aunt, uncle")

PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "His": "Her"},
    "he": {"he": "he", "him": "him", "his": "his", "His": "His"},
}

# No trait begins with a vowel: templates have "a {trait}".
TRAITS = listed("""
    kind, brave, clever, gentle, funny, quiet, cheerful, curious, careful, busy, polite, lively, smart,
    playful, friendly, patient
""")

# Feelings, by what causes them.
SAD = listed("sad, unhappy, upset, gloomy, tearful, disappointed, glum, miserable")
AFRAID = listed("scared, afraid, worried, frightened, nervous, anxious, shaky, alarmed")
SORRY = listed("sorry, ashamed, sad, upset, guilty, unhappy, embarrassed, troubled")
LONELY = listed("lonely, sad, left out, unhappy, forgotten, gloomy, lonesome, lost")
CROSS = listed("cross, angry, mad, grumpy, upset, furious, annoyed, sulky")
GOOD = listed("""
    happy, glad, proud, thankful, merry, joyful, pleased, cheery, relieved, calm, content, delighted,
    grateful, hopeful, jolly, peaceful
""")


# Things to hold → what to do with them, as in "to throw it".
THINGS = dict(
    entry.split(": ")
    for entry in listed("""
        ball: throw, kite: fly, drum: play, doll: dress, boat: sail, book: read, wagon: pull, train: push,
        robot: talk to, puzzle: play with, whistle: blow, bell: ring, bucket: fill, shovel: dig with,
        top: spin, horn: blow, lamp: light, crown: wear, cup: drink from, basket: carry, wand: do magic with,
        brush: paint with, flute: play, shell: listen to, feather: tickle people with, mask: hide behind,
        truck: roll, rope: jump over, clock: look at, puppet: play with, fan: wave, stick: play with,
        globe: turn, magnet: play with, pot: cook with, spoon: eat with, hoop: roll, mirror: look into,
        bag: carry, candle: light, guitar: play, broom: sweep with, hammer: build with,
        telescope: look through
    """)
)

LOOKS = listed("""
    red, blue, green, yellow, pink, purple, orange, white, black, brown, silver, golden, gray, tiny, big,
    small, huge, shiny, new, old, pretty, striped, spotted, lovely
""")

# Places to go → spots there where a thing can lie or someone can wait.
PLACES = {
    place: listed(spots)
    for place, spots in {
        "the park": "under a bench, behind the big tree, next to the pond, by the statue",
        "the beach": "behind a rock, in the warm sand, under a palm tree, beside the dunes",
        "the garden": "behind the roses, between the carrots, behind the shed, under the apple tree",
        "the woods": "under the leaves, beside a hollow log, behind an oak, among the ferns",
        "the farm": "in the hay, behind the barn, under the cart, next to the pigs",
        "the school": "under a desk, by the blackboard, behind the door, near the window",
        "the market": "under a table, behind the apples, between two boxes, beside the fish",
        "the zoo": "near the lions, in front of the monkeys, beside the gate, behind the penguins",
        "the river": "under the bridge, in the mud, among the stones, beside the mill",
        "the playground": "under the slide, behind the swings, in the sandbox, beside the seesaw",
        "the library": "under a chair, on the stairs, behind the curtain, between the shelves",
        "the hill": "in the tall grass, behind a big stone, by the fence, on the very top",
        "the lake": "behind the reeds, under an old boat, on the dock, by the tent",
        "the meadow": "among the flowers, under a bush, next to the well, behind the sheep",
        "the village": "by the fountain, under the steps, behind the bakery, near the church",
        "the castle": "behind the throne, on the carpet, in the dark tower, by the fireplace",
    }.items()
}

FOODS = listed("""
    cookie, apple, banana, bun, pancake, carrot, pear, sandwich, plum, orange, muffin, peach, piece of cake,
    bowl of soup, slice of bread, candy bar, bag of nuts, jar of honey, box of berries, piece of cheese,
    potato, lemon, cake, pie, waffle, egg, tomato, bag of popcorn, cucumber, hot dog, pizza, bowl of rice
""")

CLOTHES = listed("""
    hat, cap, scarf, coat, shirt, sweater, apron, cape, vest, jacket, hood, shawl, robe, pullover, poncho,
    tie
""")

HOBBIES = listed("""
    sing songs, count stars, draw pictures, climb trees, tell jokes, collect stones, build towers, dance,
    chase butterflies, watch the clouds, play in the mud, bake bread, swim, go fishing, dress up,
    make masks, look for bugs, listen to stories, pick flowers, jump in puddles, play cards, run, dream,
    cook, read, laugh, feed birds, make friends, eat honey, make up poems, roll down hills, play the piano
""")

JOBS = listed("""
    sweep the floor, wash the dishes, feed the hens, water the plants, carry the wood, set the table,
    clean the windows, pick the beans
""")
GAMES = listed("hide and seek, catch, school, pirates, tag, kings and queens, store, trains")
NUMBERS = listed("two, three, four, five, six, seven, eight, nine, ten, twelve")

WEATHERS = listed("sunny, rainy, windy, snowy, cloudy, foggy, warm, cool, hot, bright, gray, fine")
TIMES = listed("morning, afternoon, day")

PASSERS_BY = listed("""
    snail, cat, dog, bird, bee, butterfly, beetle, ladybug, lizard, ant, crow, pigeon, worm, spider, moth,
    toad, fly, cricket, parrot, hamster
""")
PASSING = listed("ran by, hummed, slept, looked up, waved, hid, sang, made a noise, smiled, sneezed")
COUNTED = listed("stones, flowers, birds, clouds, boats, cars, trees, leaves, sticks, flags")
KEEPSAKES = listed("stone, leaf, button, nut, flower, acorn, bead, marble, pebble, twig, petal, pinecone")
CLOTHES_NEWS = listed("""
    got wet, got dusty, had a hole, was too big, was too warm, fell off, looked pretty, lost a thread
""")

# Names of choices that many templates share.
SHORTHANDS = {
    "<then>": "[Then|Soon|Next|After that|A little later|A moment later|After a while|Before long]",
    "<suddenly>": "[Suddenly|All at once|Just then|At that moment]",
    "<said>": "[said|whispered|called|murmured|mumbled|muttered]",
    "<answered>": "[answered|replied|said|called|whispered|murmured]",
    "<asked>": "[asked|wondered|whispered|said|called|murmured]",
    "<cried>": "[cried|shouted|called|yelled|screamed|shrieked|exclaimed|said]",
    "<ran>": "[ran|walked|hurried|went|rushed|came]",
    "<smiled>": "[smiled|laughed|grinned|nodded|clapped|cheered]",
    "<very>": "[|very |so |really ]",
    "<sorry>": "[I am sorry|I am so sorry|Please forgive me|Sorry]",
}
