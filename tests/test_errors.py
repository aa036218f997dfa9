"""An error says one problem and one remedy, also from another process."""

import pickle

import pytest

from segdeploy.errors import SegdeployError, needs


def test_an_error_reads_as_its_problem():
    error = SegdeployError("a.toml: size = 3; wanted [height, width]", hint="see models/README.md")

    assert str(error) == error.problem == "a.toml: size = 3; wanted [height, width]"
    assert error.hint == "see models/README.md"


@pytest.mark.parametrize(
    ("hint", "lines"), [("", "error: no such file"), ("look", "error: no such file\nhint: look")]
)
def test_an_error_is_printed_in_one_line_or_two(hint, lines):
    assert SegdeployError("no such file", hint=hint).to_lines() == lines


def test_an_error_survives_the_way_between_processes():
    error = SegdeployError("no such file", hint="look again")

    arrived = pickle.loads(pickle.dumps(error))

    assert (type(arrived), arrived.problem, arrived.hint) == (
        SegdeployError,
        "no such file",
        "look again",
    )


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    with pytest.raises(SegdeployError) as caught, needs("torch", extra="torch"):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    assert "the package torch" in caught.value.problem
    assert caught.value.hint == "pip install 'segdeploy[torch]'"


def test_another_missing_package_keeps_its_traceback():
    with pytest.raises(ModuleNotFoundError), needs("torch", extra="torch"):
        raise ModuleNotFoundError("No module named 'yaml'", name="yaml")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libcudart.so.13: cannot open shared object file", name="torch"),
        OSError("libcudart.so.13: cannot open shared object file"),
    ],
)
def test_a_package_that_is_there_but_broken_says_why_and_how_to_repair_it(error):
    with pytest.raises(SegdeployError) as caught, needs("torch", extra="torch"):
        raise error

    assert str(caught.value) == (
        "the package torch is installed but cannot be loaded "
        "(libcudart.so.13: cannot open shared object file)"
    )
    assert caught.value.hint == "pip install --force-reinstall 'segdeploy[torch]'"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [SegdeployError("no GPU"), ZeroDivisionError()])
def test_what_is_no_matter_of_installation_is_left_alone(error):
    with pytest.raises(type(error)) as caught, needs("torch", extra="torch"):
        raise error

    assert caught.value is error
