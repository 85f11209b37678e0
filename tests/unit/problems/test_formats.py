"""Published formats are read as they are written, and nothing in a data file is run."""

import gzip
import os
import pickle
import re
import struct

import numpy as np
import pytest
import torch

from thalweg.problems.formats import read_cifar_batch, read_idx, restricted_load
from unit.problems.published import idx, python2_batch, python3_batch


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5,), (3, 28, 28), (0,), (2, 3, 4, 5)])
def test_idx_compressed_or_not(tmp_path, shape):
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    for name in ("a", "a.gz"):
        read = read_idx(tmp_path / name)
        assert read.dtype == torch.uint8
        assert np.array_equal(read.numpy(), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00\x0d\x01" + bytes(8), "not an IDX file of unsigned bytes"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], "shape (2, 3) needs 6 bytes; there are 5."),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", "needs 6 bytes; there are 7."),
    ],
)
def test_a_broken_idx_file_says_so(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_idx(tmp_path / "a")


@pytest.mark.parametrize("write", [python2_batch, lambda p, y, _: python3_batch(p, y)])
def test_cifar_batches_of_both_pythons(tmp_path, write):
    path = tmp_path / "data_batch_1"
    path.write_bytes(write(PIXELS, [3, 1, 4, 1], "labels"))
    images, labels = read_cifar_batch(path, b"labels")
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [3, 1, 4, 1]
    # The first 1024 entries of a row are the red channel, row by row of the image.
    assert images[2, 0, 1, 5] == PIXELS[2, 32 + 5]
    assert images[2, 2, 31, 31] == PIXELS[2, 3071]


def test_the_python_2_batch_of_the_tests_is_a_real_pickle():
    batch = pickle.loads(python2_batch(PIXELS, [0, 1, 2, 3], "labels"), encoding="bytes")
    assert batch[b"labels"] == [0, 1, 2, 3]
    assert np.array_equal(batch[b"data"], PIXELS)


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_nothing_in_a_pickle_is_run(tmp_path):
    evidence = tmp_path / "evidence"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Trap(f"touch {evidence}")}))
    with pytest.raises(ValueError, match=r"system is not allowed in a data file"):
        restricted_load(path)
    assert not evidence.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1]),
        pickle.dumps({b"data": PIXELS}, protocol=2),
        python2_batch(PIXELS, [0, 1, 2, 3], "coarse_labels"),
        python2_batch(PIXELS, [0, 1, 2], "labels"),
        python2_batch(PIXELS[:, :3000], [0, 1, 2, 3], "labels"),
        python3_batch(PIXELS.astype(np.int16), [0, 1, 2, 3]),
        b"\x80\x02cbuiltins\neval\n.",
        struct.pack(">I", 2051),
    ],
)
def test_what_is_no_batch_says_so(tmp_path, content):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_1"):
        read_cifar_batch(path, b"labels")
