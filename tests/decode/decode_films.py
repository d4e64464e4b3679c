"""Films that the tests render: frame k shows the grey level `grey(k)`, so a picture tells its number."""

from fractions import Fraction

import numpy as np

from schemas.media import DecodeSpec, Preprocessing
from schemas.sample import Caption, Generator, MediaRef, Sample

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
SPEC = DecodeSpec()
SIGLIP = Preprocessing(size=56, **HALF)
INTERNVIDEO2 = Preprocessing(size=64, interpolation="bilinear", pad_colour=(123, 116, 103), **HALF)
PREPROCESSING = {"siglip": SIGLIP, "internvideo2": INTERNVIDEO2}
NS = 10**9


def grey(number):
    return 20 + 3 * (number % 70)


def render(path, count=40, rate=10, codec="libx264", gop=12, b_frames=2, ticks=None, size=(64, 48), setup=None,
           options=None, frame=None):  # fmt: skip
    """`ticks` are pts in 1/1000 s (default: a constant rate); `setup(stream)` may add what a test needs."""
    import av

    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        if codec != "libvpx-vp9":
            stream.codec_context.max_b_frames = b_frames
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000) if ticks else Fraction(1, rate)
        if codec.startswith("mpeg"):
            stream.codec_context.bit_rate = 8_000_000
        if codec == "libx264":
            stream.codec_context.options = {"preset": "ultrafast", "bf": str(b_frames), "crf": "10"}
        if codec == "libvpx-vp9":
            stream.codec_context.options = {"deadline": "realtime", "cpu-used": "8"}
        if setup:
            setup(stream)
        for number in range(count):
            pixels = np.full((size[1], size[0], 3), grey(number), np.uint8) if frame is None else frame(number)
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", threads=1)
            picture.pts = ticks[number] if ticks else number
            picture.time_base = stream.codec_context.time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def reference(path):
    """Every frame of a film by plain PyAV: [(pts in ns from the first, planes)]. Only for containers with pts."""
    import av

    with av.open(str(path)) as container:
        frames = [(f.pts * f.time_base, f.to_ndarray()) for f in container.decode(video=0)]
    return [(int((pts - frames[0][0]) * NS), planes) for pts, planes in frames]


def sample(*media, key="k", source="s", kind="video", **span):
    refs = tuple(m if isinstance(m, MediaRef) else MediaRef(kind=kind, path=m, **span) for m in media)
    modality = {0: "text", 1: kind}.get(len(refs), "multi_image")
    return Sample(
        key=key, source=source, modality=modality, category="captioning", media=refs, licence="CC0-1.0",
        annotations=(Caption(text="A film."),), annotator=Generator(name="human"),
    )  # fmt: skip
