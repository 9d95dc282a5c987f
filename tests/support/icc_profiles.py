"""Build small ICC profiles (ICC.1:2022), so that no test needs a file of another's making."""

import struct

Triple = tuple[float, float, float]

D50: Triple = (0.9642, 1.0, 0.8249)
# The primaries as XYZ, adapted to D50.
SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3_PRIMARIES = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_PRIMARIES = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
PROPHOTO_PRIMARIES = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))


def rgb_profile(primaries: tuple[Triple, Triple, Triple], gamma: float) -> bytes:
    """Return the profile of a colour space with three primaries and one gamma."""
    tags = {name: _xyz(xyz) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    tags |= {name: _curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile(cyan_lightness: int) -> bytes:
    """Return a press profile whose full cyan is a grey of this lightness (L*), and whose other inks are black."""
    corners = bytearray()
    for corner in range(16):  # the last channel varies fastest: cyan is the highest bit
        lightness = {0: 100, 8: cyan_lightness}.get(corner, 0)
        corners += bytes((round(lightness * 2.55), 128, 128))
    straight = bytes(range(256))
    matrix = b"".join(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + straight * 4 + bytes(corners) + straight * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def _profile(kind: bytes, space: bytes, connection_space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"wtpt": _xyz(D50), **tags}
    position = 132 + 12 * len(tags)
    directory, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        directory += name + struct.pack(">II", position + len(data), len(content))
        data += padded
    header = struct.pack(">I4sI4s4s4s", position + len(data), b"", 0x02400000, kind, space, connection_space)
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(_fixed(value) for value in D50)
    return header.ljust(128, b"\0") + directory + data


def _xyz(values: Triple) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
