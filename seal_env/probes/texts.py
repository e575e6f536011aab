"""Probe texts: they have nothing to do with what a self-edit is about.

For the embedded models they are of the embedded worlds and of nobody that a problem is about. For
all others they are plain general knowledge, written for this project (Apache-2.0 like the rest).
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from seal_env.errors import UserError, printable, reason
from seal_env.hashing import stable_hash
from seal_env.tasks.biographies.people import passage, sample_person
from seal_env.tasks.biographies.task import names
from seal_env.tasks.grids.tiny_grids import TinyGrids

EMBEDDED = 8
"""Texts of an embedded world, of about 70 tokens each."""
RESERVED = 1 << 40
"""Problems of the grids' pretraining split from this index on are nobody's but the probe's."""

GENERAL = tuple(
    " ".join(paragraph.split())
    for paragraph in """
    Water boils at a lower temperature on a high mountain than at the coast. The air presses less on
    its surface there, so fewer degrees are needed before bubbles can form. Cooks in mountain
    villages therefore boil their potatoes for longer.

    A library lends books for a few weeks. Readers who want to keep one for longer can renew the
    loan, unless somebody else has asked for it. Most libraries also have rooms where people can
    read newspapers, study, or work together at large tables.

    The heart is a muscle that pumps blood through the body. It beats about seventy times a minute
    at rest and faster during exercise. Arteries carry the blood away from it, and veins bring the
    blood back.

    Bread is made from flour, water, salt and yeast. The yeast eats sugar in the dough and gives off
    gas, which makes the dough rise. After an hour or two the baker shapes the loaves and puts them
    into a hot oven.

    The moon goes around the earth in a little less than a month. It gives no light of its own; what
    we see is sunlight that it reflects. When the earth stands between the sun and the moon, its
    shadow darkens the moon for some hours.

    A bicycle stays upright most easily when it moves. The rider steers slightly into the direction
    of every fall, usually without noticing it. Learning this takes a child a few days, and it is
    hardly ever forgotten.

    In a democracy citizens choose their representatives in elections. Each voter marks a ballot in
    secret, and the ballots are counted in public. The party or person with the most votes takes
    office for a fixed number of years.

    Bees collect nectar from flowers and turn it into honey. On the way they carry pollen from one
    blossom to the next, and without it many fruit trees would bear nothing. A single hive may hold
    fifty thousand bees in summer.

    To add two fractions, first bring them to the same denominator. Then add the numerators and keep
    the denominator as it is. One half and one third, for example, are three sixths and two sixths,
    which together make five sixths.

    A river begins at a spring or a lake and flows downhill until it reaches the sea. On its way it
    carries sand and stones along. Where the land is flat, it slows down, bends from side to side,
    and drops what it carried.

    Glass is made by melting sand together with soda and lime. While it is hot it can be blown,
    pressed or drawn into almost any shape. Old glass can be melted again as often as one likes
    without becoming worse.

    A good letter of application is short. It says which position it is about, why the writer is
    suited to it, and when a conversation would be possible. Before it is sent, somebody else should
    read it for mistakes.
    """.split("\n\n")
)
"""Plain general knowledge, about 50 words each."""


def suited_texts(model: str) -> tuple[str, ...]:
    """The probe texts that suit a model.

    Args:
        model: What the model was loaded as.

    Returns:
        For "tiny", passages about people whose names no split has; for "tiny-grids",
        demonstrations of operations that it was pretrained on; for all others `GENERAL`.
    """
    if model == "tiny":
        return tuple(_stranger(name) for name in names("pretrain")[-EMBEDDED:])
    if model == "tiny-grids":
        world = TinyGrids()
        return tuple(world.problem("known", RESERVED + i).context for i in range(EMBEDDED))
    return GENERAL


def read_texts(file: str) -> tuple[str, ...]:
    """Probe texts from a UTF-8 file; an empty line ends a text.

    Raises:
        UserError: The file cannot be read, or holds no text.
    """
    shown = printable(str(Path(file)), 200)
    try:
        content = Path(file).expanduser().read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"texts {shown}: is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:  # also names that no file can have
        raise UserError(f"texts {shown}: cannot be read ({reason(error)})") from error
    pieces = re.split(r"\n\s*\n", content)
    texts = tuple(piece.strip() for piece in pieces if piece.strip())
    if not texts:
        raise UserError(f"texts {shown}: holds no text; write some, with empty lines between them")
    return texts


def _stranger(name: str) -> str:
    random = Random(stable_hash("probe", name))
    return passage(sample_person(name, random), random)
