import io

import av
import numpy as np
import pytest

from tests.media.clips import moving_square
from videogen.errors import InvalidFrames, UndecodableVideo
from videogen.media.mp4 import decode_mp4, encode_mp4
from videogen.quality.psnr import measure_psnr


def test_frames_survive_the_round_trip():
    clip = moving_square()
    decoded = decode_mp4(encode_mp4(clip, fps=8))
    assert decoded.shape == clip.shape
    measured = measure_psnr(clip, decoded)
    assert measured.mean > 33
    assert measured.luma > 40


def test_colours_are_not_shifted():
    flat = np.broadcast_to(np.array([235, 33, 31], np.uint8), (4, 32, 32, 3)).copy()
    assert np.abs(decode_mp4(encode_mp4(flat, fps=8)).astype(int) - flat).max() <= 3


def test_the_file_is_what_browsers_play():
    data = encode_mp4(moving_square(), fps=12)
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 12
        assert stream.frames == 16
        assert stream.codec_context.colorspace == 1  # BT.709


def test_a_fractional_rate_is_kept():
    with av.open(io.BytesIO(encode_mp4(moving_square(), fps=30000 / 1001))) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(29.97, abs=0.001)


def test_the_same_frames_give_the_same_bytes():
    assert encode_mp4(moving_square(), fps=8) == encode_mp4(moving_square(), fps=8)


def test_a_lower_crf_is_closer_and_larger():
    clip = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    fine, coarse = encode_mp4(clip, 8, crf=10), encode_mp4(clip, 8, crf=40)
    assert len(fine) > len(coarse)
    assert measure_psnr(clip, decode_mp4(fine)).mean > measure_psnr(clip, decode_mp4(coarse)).mean


@pytest.mark.parametrize(
    ("frames", "fps", "said"),
    [
        (np.zeros((4, 31, 32, 3), np.uint8), 8, "even sides"),
        (np.zeros((4, 32, 32, 3), np.float32), 8, "expected uint8"),
        (np.zeros((0, 32, 32, 3), np.uint8), 8, "none of them 0"),
        (np.zeros((4, 32, 32, 3), np.uint8), 0, "fps: got 0"),
        (np.zeros((4, 32, 32, 3), np.uint8), float("nan"), "fps: got nan"),
    ],
)
def test_what_cannot_be_encoded_is_refused(frames: np.ndarray, fps: float, said: str):
    with pytest.raises(InvalidFrames) as caught:
        encode_mp4(frames, fps)
    assert said in str(caught.value)


@pytest.mark.parametrize("keep", [0, 300, 0.5, 0.98])
def test_a_truncated_file_is_refused(keep: float):
    data = encode_mp4(moving_square(), fps=8)
    length = int(keep * len(data)) if keep < 1 else keep
    with pytest.raises(UndecodableVideo):
        decode_mp4(data[:length])


def test_bytes_that_are_no_video_are_refused():
    with pytest.raises(UndecodableVideo, match="not a readable video"):
        decode_mp4(b"not a video" * 100)
