"""A latency profile as the scheduler reads it: seconds of a step and of the rest, by batch and streams."""

from videogen.engines.profile import LatencyProfile
from videogen.errors import ArtifactCorrupt
from videogen.scheduling.costs import Table


def step_costs(profile: LatencyProfile) -> Table:
    """What was measured of an engine's networks, per batch of requests: a guided step calls on two rows for each.

    Raises ArtifactCorrupt for a profile without denoiser, text encoder or decoder.
    """
    measured = sorted({(point.batch, point.streams) for point in profile.points if point.network == "denoiser"})
    try:
        step = {
            (batch, streams): profile.seconds("denoiser", 2 * batch if profile.guided else batch, streams)
            for batch, streams in measured
        }
        rest = {
            (batch, streams): profile.seconds("text_encoder", batch, streams)
            + profile.seconds("decoder", batch, streams)
            for batch, streams in measured
        }
    except KeyError as error:
        raise ArtifactCorrupt(f"latency profile: {error.args[0]}") from error
    if not step:
        raise ArtifactCorrupt("latency profile: denoiser was not measured")
    return Table(step, rest)
