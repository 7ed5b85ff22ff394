"""The lossless JPEG encoder, read back by a decoder that is not ours."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defocus_ds.errors import InputError
from defocus_ds.simulate.ljpeg import encode


def decoded(stream: bytes) -> np.ndarray:
    image = imagecodecs.jpegsof3_decode(stream)
    return image.reshape(image.shape[0], -1)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    groups=st.integers(1, 40),
    components=st.sampled_from([2, 4]),
    bits=st.sampled_from([10, 12, 14]),
    spread=st.integers(0, 14),
    seed=st.integers(0, 2**32 - 1),
)
def test_another_decoder_reads_the_same_samples(
    rows: int, groups: int, components: int, bits: int, spread: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    walk = rng.integers(-(2**spread), 2**spread + 1, (rows, groups * components)).cumsum(axis=1)
    samples = (walk % 2**bits).astype(np.uint16)
    assert np.array_equal(decoded(encode(samples, bits=bits, components=components)), samples)


def test_the_extremes_of_every_difference_survive() -> None:
    steps = [s * (2**k - d) for k in range(15) for d in (0, 1) for s in (1, -1)]
    samples = np.array([[8192, 8192] * 2] * len(steps), np.uint16)
    samples[:, 2] = np.clip(8192 + np.array(steps), 0, 16383)
    samples[::2, 3], samples[1::2, 3] = 0, 16383
    assert np.array_equal(decoded(encode(samples)), samples)


def test_a_stream_of_ones_is_stuffed() -> None:
    """Runs of 0xFF in the entropy-coded data must not read as markers."""
    samples = np.tile(np.array([0, 0, 16383, 16383], np.uint16), (64, 32))
    stream = encode(samples)
    scan = stream[stream.index(b"\xff\xda") + 12 : -2]
    followers = {scan[i + 1] for i, byte in enumerate(scan[:-1]) if byte == 0xFF}
    assert followers == {0}
    assert np.array_equal(decoded(stream), samples)


def test_the_code_fits_the_data() -> None:
    """Gaussian noise of deviation 6: its differences carry 5.13 bits, the code adds a little."""
    rng = np.random.default_rng(0)
    samples = rng.normal(8000, 6, (400, 600)).round().astype(np.uint16)
    assert 5.1 < 8 * len(encode(samples)) / samples.size < 5.5


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((4, 5), np.uint16), "5 columns"),
        (np.zeros((4, 4), np.uint8), "uint8"),
        (np.full((4, 4), 16384, np.uint16), "16384 needs more than 14 bits"),
    ],
)
def test_what_cannot_be_stored_is_refused(samples: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode(samples)
