"""The people of the city: Market-1501's attributes and finer traits.

Market-1501 describes a person by 27 attributes: age, gender, hair, sleeves, kind and
length of the lower garment, hat, three kinds of bag, eight upper and nine lower
colours. Two people often share all of them. They then differ in finer traits: the exact
hue, a striped shirt, a print on the back, a bag on the left side. An :class:`Identity`
holds the traits and computes the attributes from them, so that ``market_attribute.mat``
agrees with the pictures.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from reidlib.synthcity.dials import Dials

UP_COLOURS = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")
DOWN_COLOURS = (
    "black",
    "white",
    "pink",
    "purple",
    "yellow",
    "gray",
    "blue",
    "green",
    "brown",
)
ATTRIBUTES = (
    "age",
    "backpack",
    "bag",
    "handbag",
    *(f"down{colour}" for colour in sorted(DOWN_COLOURS)),
    *(
        f"up{colour}"
        # "green" before "gray", as in the columns of the real file.
        for colour in (
            "black",
            "blue",
            "green",
            "gray",
            "purple",
            "red",
            "white",
            "yellow",
        )
    ),
    "clothes",
    "down",
    "up",
    "hair",
    "hat",
    "gender",
)
"""The 27 attributes in the column order of Market-1501's training part."""

PATTERNS = (
    "plain",
    "stripes",
    "pinstripes",
    "plaid",
    "dots",
    "blocks",
    "raglan",
    "band",
    "print",
    "flowers",
    "camouflage",
    "diagonal",
    "panels",
    "zigzag",
)
PRINTS = ("none", "badge", "letters", "disc", "bars", "sprite", "photo")
HAIR_STYLES = ("short", "bald", "crop", "curly", "bun", "ponytail", "bob", "long")
SHORT_HAIR = ("short", "bald", "crop", "curly")
HATS = ("none", "cap", "beanie", "brimmed")

Colour = tuple[float, float, float]
"""Red, green and blue from 0 to 255."""

# Hue, saturation and value ranges. Orange, beige and (above the waist) pink and brown
# have no attribute in Market-1501: a person who wears them has no colour marked.
_HSV: dict[str, tuple[tuple[float, float], ...]] = {
    "black": ((0.0, 1.0), (0.0, 0.30), (0.07, 0.19)),
    "white": ((0.0, 1.0), (0.0, 0.07), (0.84, 0.97)),
    "gray": ((0.0, 1.0), (0.0, 0.09), (0.34, 0.64)),
    "red": ((-0.02, 0.015), (0.65, 0.9), (0.45, 0.82)),
    "purple": ((0.74, 0.84), (0.35, 0.7), (0.30, 0.62)),
    "yellow": ((0.125, 0.16), (0.6, 0.9), (0.75, 0.95)),
    "blue": ((0.56, 0.67), (0.45, 0.85), (0.25, 0.72)),
    "green": ((0.27, 0.43), (0.35, 0.75), (0.25, 0.62)),
    "pink": ((0.91, 0.97), (0.28, 0.5), (0.78, 0.93)),
    "brown": ((0.05, 0.09), (0.4, 0.65), (0.22, 0.46)),
    "orange": ((0.05, 0.08), (0.75, 0.92), (0.78, 0.95)),
    "beige": ((0.09, 0.12), (0.15, 0.3), (0.66, 0.84)),
}

# Shares among Market-1501's people, rounded: black, white and grey dominate.
_UP_SHARE = {
    "white": 0.27,
    "black": 0.22,
    "gray": 0.15,
    "blue": 0.09,
    "red": 0.08,
    "green": 0.05,
    "yellow": 0.04,
    "purple": 0.03,
    "pink": 0.03,
    "beige": 0.02,
    "orange": 0.02,
}
_DOWN_SHARE = {
    "black": 0.40,
    "blue": 0.19,
    "gray": 0.17,
    "white": 0.08,
    "brown": 0.06,
    "beige": 0.03,
    "pink": 0.02,
    "green": 0.02,
    "red": 0.01,
    "yellow": 0.01,
    "purple": 0.01,
}
_PATTERN_SHARE = {
    "plain": 0.10,
    "stripes": 0.11,
    "pinstripes": 0.06,
    "plaid": 0.09,
    "dots": 0.06,
    "blocks": 0.07,
    "raglan": 0.06,
    "band": 0.06,
    "print": 0.07,
    "flowers": 0.06,
    "camouflage": 0.03,
    "diagonal": 0.04,
    "panels": 0.04,
    "zigzag": 0.03,
}
_SKIN = (
    (245, 214, 188),
    (232, 190, 158),
    (214, 165, 128),
    (186, 132, 96),
    (140, 94, 66),
    (98, 64, 46),
)
_HAIR = (
    (24, 20, 20),
    (38, 28, 24),
    (66, 44, 32),
    (104, 70, 44),
    (164, 122, 70),
    (206, 172, 110),
    (140, 60, 34),
)


@dataclass(frozen=True)
class Garment:
    """What is worn on one part of the body.

    Attributes:
        name: Name of the main colour.
        colours: Main, second and third colour.
        pattern: One of ``PATTERNS``.
        scale: Size of the pattern's repeat relative to the usual one.
        seed: Seed of the random details (folds, where flowers and blobs lie).
    """

    name: str
    colours: tuple[Colour, Colour, Colour]
    pattern: str
    scale: float
    seed: int


@dataclass(frozen=True)
class Identity:
    """One person of the city: everything that is the same in every picture.

    Lengths are in metres; shares are relative to a person of the usual build.

    Attributes:
        pid: Number of the identity.
        age: 1 young, 2 teenager, 3 adult, 4 old.
        female: Gender attribute.
        height: Height without hat.
        build: Width of trunk and limbs relative to the usual.
        shoulders: Shoulder width relative to the usual.
        hips: Hip width relative to the usual.
        legs: Leg length relative to the usual share of the height.
        stoop: Forward lean of the trunk in radians.
        skin: Skin colour.
        hair_colour: Colour of the hair.
        hair: One of ``HAIR_STYLES``.
        beard: Whether there is a beard.
        glasses: 0 none, 1 glasses, 2 sunglasses.
        upper: Shirt, or the jacket where ``inner`` is set.
        inner: Shirt under an open jacket (seen from the front only).
        opening: Half-angle of the jacket's opening, radians around the trunk.
        sleeve: Share of the arm that the sleeve covers.
        loose: Width of the upper garment over the body, metres.
        hem: How far the upper garment reaches below the hip joint, metres.
        tucked: Whether a belt shows.
        hood: Whether a hood lies on the back.
        front_print: One of ``PRINTS``, on the chest.
        back_print: One of ``PRINTS``, on the back.
        print_colour: Colour of the prints.
        lower: Trousers or skirt.
        skirt: Whether a skirt or dress is worn.
        lower_length: Share of the leg that the lower garment covers.
        flare: Width of the lower garment's end relative to the usual.
        side_stripe: Whether a stripe runs down the trousers.
        shoes: Colour of the shoes.
        soles: Colour of the soles.
        socks: Colour of the socks.
        hat: One of ``HATS``.
        hat_colour: Colour of the hat.
        backpack: Colours of the backpack and its pocket, or ``None``.
        bag: Colour of the shoulder bag, or ``None``.
        handbag: Colour of the handbag, or ``None``.
        bag_side: 1.0 if bag and handbag are carried on the left, else -1.0.
        pace: Length of the stride relative to the usual.
    """

    pid: int
    age: int
    female: bool
    height: float
    build: float
    shoulders: float
    hips: float
    legs: float
    stoop: float
    skin: Colour
    hair_colour: Colour
    hair: str
    beard: bool
    glasses: int
    upper: Garment
    inner: Garment | None
    opening: float
    sleeve: float
    loose: float
    hem: float
    tucked: bool
    hood: bool
    front_print: str
    back_print: str
    print_colour: Colour
    lower: Garment
    skirt: bool
    lower_length: float
    flare: float
    side_stripe: bool
    shoes: Colour
    soles: Colour
    socks: Colour
    hat: str
    hat_colour: Colour
    backpack: tuple[Colour, Colour] | None
    bag: Colour | None
    handbag: Colour | None
    bag_side: float
    pace: float

    @property
    def attributes(self) -> dict[str, int]:
        """The 27 attributes as ``market_attribute.mat`` codes them.

        Ages are 1 to 4; all others are 1 or 2: gender male, female; hair short, long;
        ``up`` long, short sleeves; ``down`` long, short; ``clothes`` dress, pants;
        hat, bags and colours no, yes.
        """
        values = {
            "age": self.age,
            "backpack": 1 + (self.backpack is not None),
            "bag": 1 + (self.bag is not None),
            "handbag": 1 + (self.handbag is not None),
            "clothes": 1 if self.skirt else 2,
            "down": 1 if self.lower_length > 0.7 else 2,
            "up": 1 if self.sleeve > 0.7 else 2,
            "hair": 1 if self.hair in SHORT_HAIR else 2,
            "hat": 1 + (self.hat != "none"),
            "gender": 1 + self.female,
        }
        for colour in UP_COLOURS:
            values[f"up{colour}"] = 1 + (self.upper.name == colour)
        for colour in DOWN_COLOURS:
            values[f"down{colour}"] = 1 + (self.lower.name == colour)
        return {name: int(values[name]) for name in ATTRIBUTES}


def draw_colour(name: str, rng: np.random.Generator) -> Colour:
    """Return a random shade of a named colour.

    Args:
        name: One of Market-1501's colour names, or ``"orange"``, ``"beige"``.
        rng: Source of randomness.

    Returns:
        Red, green and blue from 0 to 255.

    Example:
        >>> draw_colour("white", np.random.default_rng(0))[0] > 190
        True
    """
    hue, saturation, value = (rng.uniform(low, high) for low, high in _HSV[name])
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (255.0 * red, 255.0 * green, 255.0 * blue)


def _pick(share: dict[str, float], rng: np.random.Generator, power: float) -> str:
    names = list(share)
    weight = np.array([share[name] for name in names]) ** power
    return names[rng.choice(len(names), p=weight / weight.sum())]


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255.0, max(0.0, channel * factor)) for channel in colour)
    return (red, green, blue)


def _garment(
    share: dict[str, float],
    rng: np.random.Generator,
    power: float,
    patterned: float,
) -> Garment:
    name = _pick(share, rng, power)
    main = draw_colour(name, rng)
    # Second colours may be any, so that two white shirts differ.
    others = [
        draw_colour(str(rng.choice(list(_HSV))), rng),
        draw_colour(str(rng.choice(("black", "white", "gray", "blue", "red"))), rng),
    ]
    for i, other in enumerate(others):
        if np.abs(np.subtract(main, other)).sum() < 120.0:
            target = 225.0 if sum(main) < 380.0 else 35.0
            others[i] = (target, target, target)
    pattern = _pick(_PATTERN_SHARE, rng, 1.0)
    if rng.random() > patterned:
        pattern = "plain"
    return Garment(
        name=name,
        colours=(main, others[0], others[1]),
        pattern=pattern,
        scale=float(1.25 * np.exp(rng.normal(0.0, 0.3))),
        seed=int(rng.integers(2**31)),
    )


def draw_identity(pid: int, rng: np.random.Generator, dials: Dials) -> Identity:
    """Draw the random traits of a person.

    Args:
        pid: Number of the identity.
        rng: Source of randomness, used for this person only.
        dials: ``identity_similarity`` makes people more alike: more frequent colours,
            plainer clothes, fewer bags and a body of average proportions.

    Returns:
        The identity.

    Example:
        >>> from reidlib.synthcity import Dials
        >>> someone = draw_identity(7, np.random.default_rng(7), Dials())
        >>> someone.attributes["gender"] in (1, 2)
        True
    """
    alike = dials.identity_similarity
    power = 0.6 + 1.6 * alike
    patterned = 1.0 - 0.9 * alike
    spread = 1.4 - 1.2 * alike

    def often(probability: float) -> bool:
        return bool(rng.random() < probability * (1.25 - 0.75 * alike))

    female = bool(rng.random() < 0.43)
    age = 1 + int(rng.choice(4, p=(0.03, 0.62, 0.29, 0.06)))
    height = {1: 1.30, 2: 1.68, 3: 1.70, 4: 1.64}[age] - (0.10 if female else 0.0)
    height += rng.normal(0.0, 0.07) * spread
    hair = str(
        rng.choice(HAIR_STYLES, p=(0.06, 0.0, 0.02, 0.04, 0.12, 0.26, 0.16, 0.34))
        if female
        else rng.choice(HAIR_STYLES, p=(0.58, 0.08, 0.2, 0.1, 0.01, 0.02, 0.01, 0.0))
    )
    hair_colour: Colour = _HAIR[
        rng.choice(len(_HAIR), p=(0.42, 0.24, 0.12, 0.08, 0.06, 0.05, 0.03))
    ]
    if age == 4:
        grey = rng.uniform(130, 215)
        hair_colour = (grey, grey, grey)
    upper = _garment(_UP_SHARE, rng, power, patterned)
    jacket = rng.random() < 0.24 * (1.2 - 0.5 * alike)
    inner = _garment(_UP_SHARE, rng, power, patterned) if jacket else None
    long_sleeves = jacket or rng.random() < 0.26
    skirt = bool(female and rng.random() < 0.36)
    short = rng.random() < (0.65 if skirt else 0.36)
    lower = _garment(_DOWN_SHARE, rng, power, (0.85 if skirt else 0.5) * patterned)
    if skirt and rng.random() < 0.35:  # a one-piece dress
        name = upper.name if upper.name in _DOWN_SHARE else "black"
        lower = Garment(name, upper.colours, upper.pattern, upper.scale, upper.seed)
    prints = len(PRINTS)
    front = int(rng.integers(1, prints)) if often(0.38) else 0
    back = int(rng.integers(1, prints)) if often(0.3) else 0
    bag_name = str(rng.choice(("black", "brown", "gray", "blue", "red", "beige")))
    pack = draw_colour(_pick(_UP_SHARE, rng, power), rng)
    pocket = _shade(pack, rng.uniform(0.55, 1.5))
    build = float(np.exp(rng.normal(0.0, 0.11) * spread))
    return Identity(
        pid=pid,
        age=age,
        female=female,
        height=float(height),
        build=build * (0.93 if female else 1.0),
        shoulders=(0.92 if female else 1.04) + rng.normal(0.0, 0.05) * spread,
        hips=(1.06 if female else 0.96) + rng.normal(0.0, 0.05) * spread,
        legs=1.0 + rng.normal(0.0, 0.03) * spread,
        stoop=(0.16 if age == 4 else 0.02) + abs(rng.normal(0.0, 0.04)) * spread,
        skin=_shade(
            _SKIN[rng.choice(len(_SKIN), p=(0.2, 0.3, 0.22, 0.14, 0.08, 0.06))],
            rng.uniform(0.93, 1.04),
        ),
        hair_colour=_shade(hair_colour, rng.uniform(0.85, 1.2)),
        hair=hair,
        beard=bool(not female and age > 2 and rng.random() < 0.3),
        glasses=int(rng.choice(3, p=(0.7, 0.2, 0.1))),
        upper=upper,
        inner=inner,
        opening=float(rng.uniform(0.22, 0.75)) if jacket else 0.0,
        sleeve=1.0 if long_sleeves else float(rng.uniform(0.05, 0.58)),
        loose=float(rng.uniform(0.0, 0.03)) + (0.015 if jacket else 0.0),
        hem=float(rng.uniform(0.0, 0.16)),
        tucked=bool(rng.random() < 0.22),
        hood=bool(long_sleeves and hair in SHORT_HAIR and rng.random() < 0.35),
        front_print="none" if jacket else PRINTS[front],
        back_print=PRINTS[back],
        print_colour=draw_colour(str(rng.choice(list(_HSV))), rng),
        lower=lower,
        skirt=skirt,
        lower_length=float(rng.uniform(0.3, 0.6) if short else rng.uniform(0.84, 1.0)),
        flare=float(rng.uniform(0.75, 1.35)),
        side_stripe=bool(not skirt and often(0.1)),
        shoes=draw_colour(
            str(rng.choice(("black", "white", "brown", "gray", "red", "blue"))), rng
        ),
        soles=draw_colour(str(rng.choice(("white", "black", "brown"))), rng),
        socks=draw_colour(str(rng.choice(("white", "black", "gray"))), rng),
        hat=HATS[int(rng.integers(1, len(HATS)))] if often(0.1) else "none",
        hat_colour=draw_colour(str(rng.choice(list(_HSV))), rng),
        backpack=(pack, pocket) if often(0.27) else None,
        bag=draw_colour(bag_name, rng) if often(0.22) else None,
        handbag=draw_colour(bag_name, rng) if often(0.14) else None,
        bag_side=1.0 if rng.random() < 0.5 else -1.0,
        pace=float(rng.uniform(0.8, 1.15)),
    )
