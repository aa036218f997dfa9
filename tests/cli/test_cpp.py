"""`segdeploy cpp`: where the C++ library is."""

from pathlib import Path

from segdeploy.cli import cpp


def test_the_cmake_folder_has_a_package_file(segdeploy):
    ended = segdeploy("cpp", "--cmake-dir")

    folder = Path(ended.out.rstrip("\n"))
    assert ended.code == 0
    assert (folder / "segdeployConfig.cmake").is_file()
    assert (folder / "../../CMakeLists.txt").is_file()


def test_both_places_are_shown(segdeploy):
    ended = segdeploy("cpp")

    assert f"-Dsegdeploy_DIR={cpp.PACKAGE}" in ended.out
    assert ended.out.startswith("sources")


def test_sources_that_are_gone_are_an_error(segdeploy, monkeypatch, tmp_path):
    monkeypatch.setattr(cpp, "PACKAGE", tmp_path / "none")

    segdeploy("cpp").assert_error(r"cpp: is not there")
