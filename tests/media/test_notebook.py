import base64
import re

import nbformat

from tests.media.clips import moving_square
from videogen.media.mp4 import decode_mp4, encode_mp4
from videogen.media.notebook import video_notebook


def test_the_notebook_is_valid_and_holds_the_videos():
    mp4 = encode_mp4(moving_square(), fps=8)
    notebook = nbformat.reads(video_notebook("Videos", [("a <red> square\nseed 1", mp4)]).decode(), as_version=4)
    nbformat.validate(notebook)
    shown = notebook.cells[1].outputs[0].data["text/html"]
    (payload,) = re.findall(r'<video [^>]*src="data:video/mp4;base64,([^"]+)"', shown)
    assert decode_mp4(base64.b64decode(payload)).shape == (16, 64, 64, 3)
    assert "a &lt;red&gt; square<br>seed 1" in shown
