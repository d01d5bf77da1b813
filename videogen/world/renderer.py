"""Draws clips of the captioned world: attributes and a seed in, RGB frames out.

Shapes are signed distance functions with one-pixel anti-aliasing. What the caption leaves open (where the
shape is, the phase of its motion) is drawn from a generator, so one caption has many clips.
"""

import math

import torch

from videogen.world.grammar import Attributes

SIZE = 64
FRAMES = 16
FPS = 8
MARGIN = 2.0
TRAVEL = 12.0
FREE, TIGHT = 4.0, 2.5
"""How far the seed moves a shape, in pixels: across its motion, and along it."""

RADIUS = {"small": 10.0, "medium": 14.0, "large": 19.0}
COLOUR = {
    "red": (0.92, 0.13, 0.12),
    "orange": (1.00, 0.55, 0.05),
    "yellow": (1.00, 0.93, 0.12),
    "green": (0.15, 0.82, 0.20),
    "cyan": (0.10, 0.87, 0.92),
    "blue": (0.18, 0.33, 1.00),
    "pink": (0.95, 0.25, 0.80),
    "white": (0.98, 0.98, 0.98),
}


def _pixels() -> tuple[torch.Tensor, torch.Tensor]:
    axis = torch.arange(SIZE, dtype=torch.float32) + 0.5
    return torch.meshgrid(axis, axis, indexing="ij")


def _two_tone(mask: torch.Tensor, low: tuple[float, ...], high: tuple[float, ...]) -> torch.Tensor:
    return torch.stack([lo + (hi - lo) * mask for lo, hi in zip(low, high, strict=True)])


def background_image(name: str) -> torch.Tensor:
    """The background `name`, (3, 64, 64) in [0, 1]; no channel exceeds 0.42, so shapes stand out."""
    y, x = _pixels()
    match name:
        case "black":
            mask, low, high = torch.zeros_like(x), (0.03, 0.03, 0.04), (0.03, 0.03, 0.04)
        case "grey":
            mask, low, high = torch.zeros_like(x), (0.36, 0.36, 0.37), (0.36, 0.36, 0.37)
        case "striped":
            mask, low, high = ((y // 8) % 2), (0.07, 0.09, 0.22), (0.17, 0.22, 0.42)
        case "checkered":
            mask, low, high = ((x // 8 + y // 8) % 2), (0.06, 0.16, 0.10), (0.14, 0.33, 0.21)
        case "dotted":
            distance = torch.hypot(x % 8 - 4, y % 8 - 4)
            mask, low, high = (3.0 - distance).clamp(0, 1), (0.20, 0.11, 0.08), (0.42, 0.27, 0.19)
        case "gradient":
            mask, low, high = y / SIZE, (0.32, 0.06, 0.34), (0.04, 0.30, 0.34)
        case _:
            raise ValueError(f"background: got {name!r}")
    return _two_tone(mask, low, high)


def _polygon_distance(dx: torch.Tensor, dy: torch.Tensor, corners: list[tuple[float, float]]) -> torch.Tensor:
    """Signed distance to a simple polygon; see Quilez, "2D distance functions" (sdPolygon)."""
    nearest = torch.full_like(dx, math.inf)
    sign = torch.ones_like(dx)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey, wx, wy = bx - ax, by - ay, dx - ax, dy - ay
        along = ((wx * ex + wy * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        nearest = torch.minimum(nearest, (wx - ex * along) ** 2 + (wy - ey * along) ** 2)
        above, below, left = dy >= ay, dy < by, ex * wy > ey * wx
        crosses = (above & below & left) | (~above & ~below & ~left)
        sign = torch.where(crosses, -sign, sign)
    return sign * nearest.sqrt()


def _spokes(outer: float, inner: float, points: int) -> list[tuple[float, float]]:
    step = math.pi / points
    radii = [outer if i % 2 == 0 else inner for i in range(2 * points)]
    return [(r * math.sin(i * step), -r * math.cos(i * step)) for i, r in enumerate(radii)]


def shape_distance(shape: str, dx: torch.Tensor, dy: torch.Tensor, radius: float) -> torch.Tensor:
    """Signed distance in pixels (negative inside) of points (dx, dy) from a centred `shape` of `radius`."""
    match shape:
        case "circle":
            return torch.hypot(dx, dy) - radius
        case "square":
            return torch.maximum(dx.abs(), dy.abs()) - 0.88 * radius
        case "triangle":
            corners = [
                (1.15 * radius * math.sin(a), -1.15 * radius * math.cos(a))
                for a in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)
            ]
            return _polygon_distance(dx, dy - 0.2 * radius, corners)
        case "star":
            return _polygon_distance(dx, dy, _spokes(1.15 * radius, 0.5 * radius, 5))
        case "ring":
            return (torch.hypot(dx, dy) - 0.78 * radius).abs() - 0.22 * radius
        case _:
            raise ValueError(f"shape: got {shape!r}")


def trajectory(motion: str, radius: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre of the shape over time: x and y, (16,) each, in pixels; the shape never leaves the frame."""
    u, v, w = (2 * torch.rand(3, generator=generator) - 1).tolist()
    room = SIZE / 2 - 1.15 * radius - MARGIN
    free, tight = min(room, FREE), max(min(room - TRAVEL, TIGHT), 0.0)
    time = torch.arange(FRAMES, dtype=torch.float32) / (FRAMES - 1)
    line, rest = (2 * time - 1) * min(TRAVEL, room), torch.zeros(FRAMES)
    turn = 2 * math.pi * time
    match motion:
        case "right":
            x, y = line + tight * u, rest + free * v
        case "left":
            x, y = -line + tight * u, rest + free * v
        case "down":
            x, y = rest + free * u, line + tight * v
        case "up":
            x, y = rest + free * u, -line + tight * v
        case "bounce":
            x, y = rest + free * u, min(TRAVEL, room) * (0.8 - 1.6 * torch.sin(turn).abs()) + tight * v
        case "circle":
            angle, reach = turn + 0.7 * w, min(11.0, room)
            x, y = reach * torch.sin(angle) + tight * u, -reach * torch.cos(angle) + tight * v
        case "sway":
            x, y = min(TRAVEL, room) * torch.sin(turn + 0.3 * w) + tight * u, rest + free * v
        case "still":
            x, y = rest + free * u, rest + free * v
        case _:
            raise ValueError(f"motion: got {motion!r}")
    return SIZE / 2 + x, SIZE / 2 + y


def render(attributes: Attributes, seed: int) -> torch.Tensor:
    """One clip of `attributes`: (16, 3, 64, 64) float32 in [0, 1]; the seed decides what the caption leaves open."""
    generator = torch.Generator().manual_seed(seed)
    radius = RADIUS[attributes.size]
    cx, cy = trajectory(attributes.motion, radius, generator)
    y, x = _pixels()
    dx, dy = x - cx.view(-1, 1, 1), y - cy.view(-1, 1, 1)
    cover = (0.5 - shape_distance(attributes.shape, dx, dy, radius)).clamp(0, 1).unsqueeze(1)
    ground = background_image(attributes.background)
    paint = torch.tensor(COLOUR[attributes.colour]).view(1, 3, 1, 1)
    return ground + (paint - ground) * cover
