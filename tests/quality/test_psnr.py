import av
import av.filter
import numpy as np
import pytest

from videogen.errors import InvalidFrames
from videogen.quality.psnr import measure_psnr, psnr


def clips(seed: int = 0, noise: float = 9.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    reference = generator.integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    noisy = reference + generator.normal(0, noise, reference.shape)
    return reference, noisy.clip(0, 255).astype(np.uint8)


def ffmpeg_psnr(reference: np.ndarray, candidate: np.ndarray) -> list[float]:
    """Per-frame PSNR by ffmpeg's filter on planar RGB, into which RGB converts without loss."""
    graph = av.filter.Graph()
    sources = []
    for _ in range(2):
        height, width = reference.shape[1:3]
        sources.append(graph.add_buffer(width=width, height=height, format="gbrp", time_base="1/8"))
    measure, sink = graph.add("psnr"), graph.add("buffersink")
    sources[0].link_to(measure, 0, 0)
    sources[1].link_to(measure, 0, 1)
    measure.link_to(sink)
    graph.configure()
    values = []
    for index, pair in enumerate(zip(candidate, reference, strict=True)):
        for source, pixels in zip(sources, pair, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="gbrp")
            frame.pts = index
            source.push(frame)
        if index:
            values.append(float(sink.pull().metadata["lavfi.psnr.psnr_avg"]))
    for source in sources:
        source.push(None)
    values.append(float(sink.pull().metadata["lavfi.psnr.psnr_avg"]))
    return values


def test_psnr_agrees_with_ffmpeg():
    reference, candidate = clips()
    assert measure_psnr(reference, candidate).frames == pytest.approx(ffmpeg_psnr(reference, candidate), abs=1e-3)


def test_mean_is_over_frames_not_over_the_global_error():
    reference = np.zeros((2, 16, 16, 3), np.uint8)
    candidate = reference.copy()
    candidate[1] = 255
    measured = measure_psnr(reference, candidate)
    assert measured.mean == pytest.approx(50.0)
    assert measured.minimum == pytest.approx(0.0)
    assert measured.identical_frames == 1


def test_identical_clips_are_capped_and_counted():
    reference, _ = clips()
    measured = measure_psnr(reference, reference)
    assert (measured.mean, measured.luma, measured.identical_frames) == (100.0, 100.0, 5)


def test_luma_of_grey_error_equals_rgb():
    reference = np.full((3, 16, 16, 3), 100, np.uint8)
    candidate = reference + 5
    measured = measure_psnr(reference, candidate)
    assert measured.luma == pytest.approx(measured.mean) == pytest.approx(20 * np.log10(255 / 5))


def test_more_noise_is_less_psnr():
    assert psnr(*clips(noise=3)) > psnr(*clips(noise=9)) > psnr(*clips(noise=27))


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (np.zeros((5, 48, 63, 3), np.uint8), "must be equal"),
        (np.zeros((5, 48, 64, 3), np.float32), "float32"),
        (np.zeros((48, 64, 3), np.uint8), "expected (frames"),
    ],
)
def test_clips_that_do_not_fit_are_refused(candidate: np.ndarray, said: str):
    with pytest.raises(InvalidFrames) as caught:
        psnr(clips()[0], candidate)
    assert said in str(caught.value)
