"""The small parts of a sheet of images: colours, text, marks and tags."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ccreid.writing import write_whole

# Blue and vermilion of Okabe and Ito's palette, which colour-blind readers can tell apart
# (https://jfly.uni-koeln.de/color/); a check and a cross say the same without colour.
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)
PAPER, INK, GREY, LINE = (255, 255, 255), (32, 33, 36), (110, 114, 120), (222, 224, 228)
# All of that palette, the two above among them, for what has no right and wrong.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (64, 64, 64),
)
_TAG, _TAG_TEXT, TAG_SIZE = (32, 33, 36, 200), "same clothes", (76, 15)


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return the font that ships with Pillow, `size` pixels high."""
    return ImageFont.load_default(size)


def fitted(draw: ImageDraw.ImageDraw, text: str, size: int, room: int) -> str:
    """Return the text, cut with an ellipsis if it is wider than `room` pixels."""
    shown = text
    while shown and draw.textlength(shown, font(size)) > room:
        text = text[:-1]
        shown = f"{text.rstrip()}…" if text else ""
    return shown


def draw_mark(sheet: Image.Image, top_right: tuple[int, int], size: int, right: bool) -> None:
    """Draw a check or a cross on a coloured square whose top right pixel is given."""
    scale = 4  # drawn larger and scaled down, since Pillow does not smooth lines
    side = size * scale
    mark = Image.new("RGB", (side, side), RIGHT if right else WRONG)
    draw = ImageDraw.Draw(mark)
    strokes = (
        [[(0.22, 0.52), (0.42, 0.72), (0.78, 0.30)]]
        if right
        else [[(0.27, 0.27), (0.73, 0.73)], [(0.73, 0.27), (0.27, 0.73)]]
    )
    for stroke in strokes:
        points = [(x * side, y * side) for x, y in stroke]
        draw.line(points, fill=PAPER, width=round(side * 0.13), joint="curve")
    corner = (top_right[0] - size + 1, top_right[1])
    sheet.paste(mark.resize((size, size), Image.Resampling.LANCZOS), corner)


def tag_strip(room: int) -> Image.Image:
    """Return the dark strip that marks the query's clothes, at most `room` pixels wide."""
    width, height = min(TAG_SIZE[0], room), TAG_SIZE[1]
    tag = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(tag)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), 3, fill=_TAG)
    text = fitted(draw, _TAG_TEXT, 11, width)
    draw.text((width / 2, 8), text, fill=PAPER, font=font(11), anchor="mm")
    return tag


def letter(number: int) -> str:
    """Return A for 0, B for 1, ...; from 26 on the number counted from 1."""
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def colour_bar(width: int, number: int, height: int = 14) -> Image.Image:
    """Return a bar in the palette's colour of a number, with its letter: colours come again."""
    colour = PALETTE[number % len(PALETTE)]
    bar = Image.new("RGB", (width, height), colour)
    red, green, blue = colour
    is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    fill = INK if is_bright else PAPER
    middle = (width / 2, height / 2)
    ImageDraw.Draw(bar).text(middle, letter(number), fill=fill, font=font(11), anchor="mm")
    return bar


def save_sheet(sheet: Image.Image, path: Path) -> Path:
    """Write a sheet as a PNG, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    with write_whole(path) as file:
        sheet.save(file, format="PNG")
    return path
