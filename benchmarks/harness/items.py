"""Gather products to upload: made-up ones, or real ones from a folder."""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.harness.products import ProductPhotos, product_tables, read_rows, shard_of
from benchmarks.harness.progress import track_progress

PHOTO = (1600, 1200)
PICTURES = 24  # distinct photographs; texts differ for every item

PRODUCTS = [
    ("Bosch serrated bread knife, 20 cm", "Stainless steel with a non-slip handle. Dishwasher safe."),
    ("Countertop microwave oven 20 L 700 W", "Five power levels, defrost by weight, glass turntable of 25 cm."),
    ("Watercolour set with 24 half pans", "Artist quality, metal tin with mixing palette and two brushes."),
    ("Merino yarn, 50 g, worsted", "Soft and machine washable. For jumpers, hats and baby blankets."),
    ("Front brake pads, ceramic", "Low dust and quiet. Set for one axle with wear sensors and fitting kit."),
    ("Dash camera 1080p with parking mode", "Wide angle of 140 degrees, loop recording, suction mount included."),
    ("Convertible car seat, group 0+/1", "Rear facing to 13 kg, washable cover, five-point harness."),
    ("Silicone baby bib, pack of 3", "Deep pocket that catches crumbs, adjustable neck, BPA free."),
    ("Matte lipstick, long wear", "Vegan and free of fragrance. Does not dry out the lips."),
    ("Vitamin C serum 30 ml", "Brightens and evens the skin. Use in the morning under sun cream."),
    ("Phone case with card holder", "Shock absorbing edge, raised lip round the camera, wireless charging works."),
    ("USB-C fast charger 65 W", "Two ports, folding plug, charges a laptop and a phone at once."),
    ("Women's waterproof hiking jacket", "Breathable 2.5-layer fabric, taped seams, adjustable hood."),
    ("Leather belt, 35 mm", "Full grain leather with a solid brass buckle. Made to last."),
    ("Noise-cancelling headphones, over ear", "30 hours of battery, multipoint Bluetooth, folds flat into its case."),
    ("27-inch monitor, 4K IPS", "Height adjustable stand, USB-C with power delivery, factory calibrated."),
    ("Extra virgin olive oil 750 ml", "Cold pressed, single estate, harvested in November. Peppery finish."),
    ("Whole bean espresso, 1 kg", "Dark roast from Brazil and Ethiopia with notes of cocoa and hazelnut."),
    ("Digital blood pressure monitor", "Upper arm cuff for 22 to 42 cm, memory for two people."),
    ("Electric toothbrush with 4 heads", "Pressure sensor, two-minute timer, travel case."),
    ("Digital caliper 150 mm", "Stainless steel, reads to 0.01 mm, IP54, with spare battery."),
    ("Nitrile gloves, powder free, box of 100", "Textured fingertips, for the laboratory and the workshop."),
    ("Acoustic guitar, dreadnought", "Spruce top, mahogany back and sides, with gig bag and spare strings."),
    ("Digital piano with 88 weighted keys", "Three pedals, headphone socket, records to USB."),
    ("Gel pens, 0.7 mm, pack of 12", "Quick drying ink that does not smear. Refillable."),
    ("Ring binder A4, 50 mm", "Two-ring mechanism, spine label, recycled board."),
    ("Cordless hedge trimmer 18 V", "52 cm blade, anti-jam, with battery and charger."),
    ("Self-watering planter, 40 cm", "Reservoir for two weeks, frost proof, for balcony and terrace."),
    ("Orthopaedic dog bed, large", "Memory foam with a removable, washable cover and a non-slip base."),
    ("Cat litter, clumping, 10 l", "Low dust, natural clay, binds odours."),
    ("Yoga mat 6 mm", "Non-slip on both sides, with a carrying strap. Free of latex."),
    ("Camping tent for three people", "Double wall, 3,000 mm water column, pitched in ten minutes."),
    ("Cordless drill driver 12 V with two batteries", "30 Nm, two gears, LED, in a case with 35 bits."),
    ("LED ceiling light 24 W", "Dimmable by remote control, warm to cold white, 40 cm."),
    ("Wooden train set, 60 pieces", "Beech tracks, bridge and crane. From three years."),
    ("Building bricks, 500 pieces", "Fits the usual brands, with base plate and storage box."),
]
VARIANTS = ["", " - blue", " (new)", ", size L", " - 2 pack", ", black", " for beginners"]


@dataclass(frozen=True)
class Item:
    """A product to upload."""

    title: str
    description: str
    photo: bytes


def gather_items(data: Path | None, rows: int) -> tuple[list[Item], str]:
    """Return so many products, and whether they are real or made up."""
    if data is None:
        return made_items(rows), "made up"
    items = list(islice(real_items(data), rows))
    if len(items) < rows:
        sys.exit(f"{data} holds {len(items)} products with a title and a photograph; --rows asks for {rows}.")
    return items, "real"


def made_items(count: int) -> list[Item]:
    """Return made-up products; PICTURES photographs take turns."""
    rng = np.random.default_rng(18)
    photos = [draw_photo(rng) for _ in track_progress(range(min(count, PICTURES)), "Drawing photographs")]
    texts = ((title + variant, description) for variant in VARIANTS for title, description in PRODUCTS)
    return [Item(*text, photo) for text, photo in zip(islice(cycle(texts), count), cycle(photos), strict=False)]


def draw_photo(rng: np.random.Generator, size: tuple[int, int] = PHOTO) -> bytes:
    """Return a JPEG with soft shapes on a gradient and a camera's noise; it is as large as a photograph."""
    width, height = size
    corners = rng.integers(40, 230, (2, 2, 3)).astype(np.uint8)
    picture = Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        wide = rng.uniform(60, 500)
        draw.ellipse((x, y, x + wide, y + wide * rng.uniform(0.4, 1.6)), fill=tuple(rng.integers(0, 255, 3).tolist()))
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(3)), np.float32)
    noisy = (pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)
    return encode_jpeg(Image.fromarray(noisy))


def real_items(data: Path) -> Iterator[Item]:
    """Yield products that have both texts and a photograph; small photographs are enlarged to a phone's size."""
    photos = ProductPhotos(data)
    for table in product_tables(data):
        for row in read_rows(table):
            if not (row["title"] and row["description"] and row["image"] and row.get("shard")):
                continue
            with photos.open(shard_of(table, row), row["image"]) as picture:
                scale = PHOTO[0] / max(picture.size)
                size = (round(picture.width * scale), round(picture.height * scale))
                photo = encode_jpeg(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
            yield Item(row["title"][:300], row["description"][:5000], photo)


def shrink_photo(photo: bytes, width: int) -> bytes:
    """Return the JPEG at most so wide and high."""
    with Image.open(io.BytesIO(photo)) as picture:
        picture.thumbnail((width, width))
        return encode_jpeg(picture)


def encode_jpeg(picture: Image.Image) -> bytes:
    """Return the picture as a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
