"""Device memory: its errors, which cuda-python reports even where there is no driver."""

import numpy as np
import pytest

from segdeploy.cuda import driver_problem
from segdeploy.errors import SegdeployError

pytest.importorskip("cuda.bindings.runtime", exc_type=ImportError)

from segdeploy.runtime.device_memory import Buffer, Stream

without_driver = pytest.mark.skipif(driver_problem() is None, reason="there is a GPU")


@without_driver
def test_an_error_names_the_call_and_the_cause() -> None:
    with pytest.raises(SegdeployError, match=r"cudaMalloc failed: cudaError"):
        Buffer((1, 4, 4, 3), np.uint8)
    with pytest.raises(SegdeployError, match=r"cudaStreamCreate failed: cudaError"):
        Stream()


@pytest.mark.gpu
def test_what_is_uploaded_is_downloaded() -> None:
    stream, buffer = Stream(), Buffer((2, 3), np.float32)
    sent = np.arange(6, dtype=np.float32).reshape(2, 3)

    buffer.host[...] = sent
    buffer.upload(stream)
    stream.wait()
    buffer.host[...] = 0
    buffer.download(stream)
    stream.wait()

    np.testing.assert_array_equal(buffer.host, sent)
    buffer.close()
    stream.close()
