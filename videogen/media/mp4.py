"""Frames to MP4 and back, in memory: H.264, 4:2:0, with the index in front so that a browser plays it at once.

One thread and fixed settings, so the same frames give the same bytes on one build of the codec. Colours are
converted with, and tagged as, BT.709, so that players and `decode_mp4` agree on them.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from videogen.errors import InvalidFrames, UndecodableVideo
from videogen.media.frames import check_frames

if TYPE_CHECKING:
    import av

CRF = 16
PRESET = "medium"
MAX_DECODED_BYTES = 2 * 1024**3


def _configure(stream: "av.VideoStream", frames: np.ndarray, crf: int, preset: str) -> None:
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.thread_count = 1
    stream.options = {"crf": str(crf), "preset": preset}
    context = stream.codec_context
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


def _pictures(frames: np.ndarray) -> Iterator["av.VideoFrame"]:
    import av
    from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

    reformatter = VideoReformatter()  # one for all: it costs more than a small frame does
    for pixels in frames:
        yield reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            threads=1,  # helpers of its own would wait for cores that generation keeps busy
        )


def encode_mp4(frames: np.ndarray, fps: float, crf: int = CRF, preset: str = PRESET) -> bytes:
    """MP4 of `frames`, uint8 (T, H, W, 3), at `fps` frames a second; `crf` 0 (best) to 51.

    Raises InvalidFrames when they are not frames, when a side is odd (4:2:0 halves both) or `fps` isn't above 0.
    """
    import av

    check_frames(frames)
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise InvalidFrames(f"frames of {frames.shape[2]}x{frames.shape[1]} pixels; H.264 4:2:0 needs even sides")
    if not fps > 0:
        raise InvalidFrames(f"fps: got {fps}; expected a number above 0")
    buffer = io.BytesIO()

    def reopen(url: str, flags: int, options: dict[str, str]) -> io.BytesIO:
        # To move the index to the front, the muxer reads its own output while it writes it.
        return io.BytesIO(buffer.getvalue())

    with av.open(buffer, "w", format="mp4", options={"movflags": "+faststart"}, io_open=reopen) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        _configure(stream, frames, crf, preset)
        for index, frame in enumerate(_pictures(frames)):
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _checked_frame(frame: "av.VideoFrame", decoded: int) -> np.ndarray:
    if (decoded + 1) * frame.width * frame.height * 3 > MAX_DECODED_BYTES:
        raise UndecodableVideo(f"more than {MAX_DECODED_BYTES:,} bytes of frames in one video")
    return frame.to_ndarray(format="rgb24")


def decode_mp4(data: bytes) -> np.ndarray:
    """All frames of the first video stream in `data`, uint8 (T, H, W, 3).

    Raises UndecodableVideo when `data` is no video, is cut short, or decodes to more than 2 GiB.
    """
    import av
    import av.error

    try:
        with av.open(io.BytesIO(data), "r") as container:
            if not container.streams.video:
                raise UndecodableVideo("the file has no video stream")
            stream = container.streams.video[0]
            stream.thread_count = 1
            stream.codec_context.options = {"err_detect": "explode"}
            frames: list[np.ndarray] = []
            for frame in container.decode(stream):
                frames.append(_checked_frame(frame, len(frames)))
            promised = stream.frames
    except (av.error.FFmpegError, EOFError) as error:
        raise UndecodableVideo(f"{len(data):,} bytes that are not a readable video: {error}") from error
    if not frames or len(frames) < promised:
        raise UndecodableVideo(f"the file promises {promised} frames and holds {len(frames)}: it is cut short")
    return np.stack(frames)
