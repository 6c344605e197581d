"""Makes a folder of texts for the wordcount example, and of what it cannot read: bytes that are no text, a link to nowhere."""

import pathlib
import random
import sys

folder = pathlib.Path(sys.argv[1])
chance = random.Random(7)
words = ["rain", "falls", "on", "a", "thousand", "slopes", "größer", "«zitat»", "x" * 300]
for number in range(3_000):
    place = folder / f"{number % 50:02}"
    place.mkdir(parents=True, exist_ok=True)
    text = "".join(chance.choice(words) + chance.choice(" \t\n\r\f\v") for _ in range(chance.randrange(200)))
    (place / f"{number:04}.txt").write_text(text, encoding="utf-8", newline="")
(folder / "picture.png").write_bytes(bytes(range(256)))
(folder / "latin-1.text").write_bytes("größer\n".encode("latin-1"))
(folder / "nowhere").symlink_to("gone")
