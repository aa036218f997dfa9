"""The data folders are read whole, and a slip in one of them is named."""

from pathlib import Path

import pytest

from segdeploy import recipes
from segdeploy.errors import SegdeployError
from segdeploy.recipes import (
    CalibrationSet,
    calibration_names,
    load_calibration,
    load_classes,
    load_model,
    load_targets,
    model_names,
    read_classes,
)
from segdeploy.spec import ClassSet, Method, Size

MODEL = 'method = "fcn"\nlicense = "MIT"\n'
DRAWN = 'dataset = "demo"\nsplit = "train"\nmethod = "max"\ncount = 4\nseed = 0\n'
IDS = tuple(f"train-{k:03d}" for k in range(100))


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", model_names())
def test_every_model_of_the_zoo_loads(name):
    spec = load_model(name)

    assert spec.name == name
    assert spec.classes is not None
    assert spec.checkpoint or spec.checkpoint_url.startswith("https://")
    assert spec.license


def test_the_zoo_is_the_demo_and_the_four_methods_on_two_data_sets():
    specs = [load_model(name) for name in model_names() if name != "demo"]

    assert {(spec.method, spec.dataset) for spec in specs} == {
        (method, dataset) for method in Method for dataset in ("cityscapes", "ade20k")
    }
    assert {len(spec.classes) for spec in specs if spec.dataset == "cityscapes"} == {19}
    assert {len(spec.classes) for spec in specs if spec.dataset == "ade20k"} == {150}


def test_every_reference_row_belongs_to_a_model():
    targets = load_targets()

    assert targets.keys() == set(model_names()) - {"demo"}
    assert all(10 < target.miou < 100 and target.fps > 0 for target in targets.values())


def test_one_model_has_a_published_score_of_many_scales():
    scores = {name: target.miou_ms_flip for name, target in load_targets().items()}

    assert {name: score for name, score in scores.items() if score} == {"fcn-cityscapes": 73.34}


@pytest.mark.parametrize("name", calibration_names())
def test_every_calibration_set_loads_and_keeps_off_the_scored_split(name):
    recipe = load_calibration(name)

    assert recipe.name == name
    assert recipe.count > 0 or recipe.images
    assert "train" in recipe.split


@pytest.mark.parametrize("path", sorted((recipes.MODELS / "classes").glob("*.toml")), ids=str)
def test_every_class_list_has_names_of_its_own(path):
    classes = read_classes(path)

    assert len(set(classes.names)) == len(classes)


def test_a_method_is_a_model_of_classes_yet_unknown():
    spec = load_model("deeplabv3plus")

    assert (spec.method, spec.classes, spec.size) == (Method.DEEPLABV3PLUS, None, None)


def test_a_model_of_ones_own_is_a_file(tmp_path):
    write(tmp_path / "two.toml", "classes = [{name='a', rgb=[1,2,3]}, {name='b', rgb=[4,5,6]}]")
    text = 'classes = "two.toml"\nsize = [64, 96]\nwidth = 1\nhead_channels = 16\n'
    name = write(tmp_path / "own.toml", MODEL + text + 'checkpoint = "weights/own.pth"\n')

    spec = load_model(name)

    assert spec.name == "own"
    assert spec.classes == ClassSet(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    assert (spec.size, spec.width, spec.head_channels) == (Size(64, 96), 1.0, 16)
    assert spec.checkpoint == tmp_path / "weights/own.pth"


@pytest.mark.parametrize(
    "name",
    ["unet", "", ".", "../demo", "models/demo", "classes/demo", "absent.toml", "demo\0", "*"],
)
def test_what_is_no_model_is_refused_with_those_there_are(name):
    with pytest.raises(SegdeployError, match="is not a model") as caught:
        load_model(name)

    assert "fcn-cityscapes" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (MODEL + "widht = 1.0", "unexpected key `widht`"),
        ('method = "fcn"', "the key `license` is missing"),
        ('method = "unet"\nlicense = ""', "method = 'unet'; wanted one of fcn, pspnet"),
        ('method = 3\nlicense = ""', "method = 3; wanted a text"),
        (MODEL + "classes = 5", "classes = 5; wanted a text"),
        (MODEL + "dataset = [1]", r"dataset = \[1\]; wanted a text"),
        (MODEL + "size = 512", "size = 512; wanted a list"),
        (MODEL + "size = [512]", r"size = \[512\]; wanted \[height, width\]"),
        (MODEL + 'size = ["a", "b"]', r"wanted \[height, width\]"),
        (MODEL + "size = [1, 2, 3]", r"wanted \[height, width\]"),
        (MODEL + 'width = "wide"', "width = 'wide'; wanted a number"),
        (MODEL + "width = true", "width = True; wanted a number"),
        (MODEL + "width = 0", "width 0; wanted a number above 0"),
        (MODEL + "width = inf", "width inf; wanted a number above 0"),
        (MODEL + "width = nan", "width nan; wanted a number above 0"),
        (MODEL + "head_channels = 0", "head_channels 0; wanted 1 or more"),
        (MODEL + "head_channels = 1.5", "head_channels = 1.5; wanted a whole number"),
        (MODEL + "checkpoint = 7", "checkpoint = 7; wanted a text"),
        (MODEL + 'classes = "venus"', r"venus\.toml: no such file"),
        (MODEL + 'classes = "../../venus"', r"classes/venus\.toml: no such file"),
        ("method = ", "is not TOML"),
    ],
)
def test_a_slip_in_a_model_is_named(tmp_path, text, complaint):
    name = write(tmp_path / "own.toml", text)

    with pytest.raises(SegdeployError, match=complaint) as caught:
        load_model(name)

    assert "toml" in caught.value.problem or "own" in caught.value.problem


def test_a_folder_in_the_place_of_a_class_list_is_named(tmp_path):
    (tmp_path / "two.toml").mkdir()

    with pytest.raises(SegdeployError, match=r"two\.toml: cannot be read"):
        read_classes(tmp_path / "two.toml")


def test_bytes_that_are_no_text_are_no_toml(tmp_path):
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(SegdeployError, match=r"own\.toml: is not TOML"):
        load_model(str(tmp_path / "own.toml"))


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "classes = 3",
        "classes = ['a', 'b']",
        "classes = [{ name = 'a' }, { name = 'b' }]",
        "classes = [{ name = 'a', rgb = [1, 2] }, { name = 'b', rgb = [1, 2, 3] }]",
        "classes = [{ name = 'a', rgb = [1, 2, 'x'] }, { name = 'b', rgb = [1, 2, 3] }]",
        "classes = [{ name = 'a', rgb = [1, 2, inf] }, { name = 'b', rgb = [1, 2, 3] }]",
        "classes = [{ name = 'a', rgb = [1, 2, 256] }, { name = 'b', rgb = [1, 2, 3] }]",
        "classes = [{ name = 'a', rgb = [1, 2, 3] }]",
    ],
)
def test_a_slip_in_a_class_list_is_named_with_its_file(tmp_path, rows):
    write(tmp_path / "own.toml", rows)

    with pytest.raises(SegdeployError, match=r"own\.toml: "):
        load_classes("own.toml", tmp_path / "model.toml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (DRAWN + "images = 'a.txt'", "wanted one of `images`"),
        (DRAWN.replace("count = 4\n", ""), "wanted one of `images`"),
        (DRAWN.replace("4", "0"), "count = 0; wanted 1 or more"),
        (DRAWN.replace("4", "-4"), "count = -4; wanted 1 or more"),
        (DRAWN.replace("4", "4.5"), "count = 4.5; wanted a whole number"),
        (DRAWN.replace("max", "entropy"), "method = 'entropy'; wanted one of max"),
        (DRAWN + "percentil = 99.9", "unexpected key `percentil`"),
        (DRAWN + 'keep_fp32 = "decode_head"', "wanted a list"),
        ('dataset = "demo"', "the key `method` is missing"),
    ],
)
def test_a_slip_in_a_calibration_set_is_named(tmp_path, text, complaint):
    name = write(tmp_path / "own.toml", text)

    with pytest.raises(SegdeployError, match=rf"own\.toml: .*{complaint}"):
        load_calibration(name)


@pytest.mark.parametrize("name", ["", "../demo-64", "calibration/demo-64", "README.md", "x.toml"])
def test_what_is_no_calibration_set_is_refused_with_those_there_are(name):
    with pytest.raises(SegdeployError, match="is not a calibration set") as caught:
        load_calibration(name)

    assert "demo-64" in caught.value.hint


def test_listed_images_are_read_from_the_file_beside(tmp_path):
    write(tmp_path / "ids.txt", "# chosen by hand\nb/2\n\na 1\n")
    listed = DRAWN.replace("count = 4\nseed = 0", 'images = "ids.txt"')

    recipe = load_calibration(write(tmp_path / "own.toml", listed))

    assert recipe.images == ("b/2", "a 1")
    assert recipe.draw(IDS) == ("b/2", "a 1")


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n", b"\xff\xfe"])
def test_a_list_without_images_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "ids.txt").write_bytes(content)
    listed = DRAWN.replace("count = 4\nseed = 0", 'images = "ids.txt"')
    name = write(tmp_path / "own.toml", listed)

    with pytest.raises(SegdeployError, match=r"ids\.txt: "):
        load_calibration(name)


def drawn(seed: int, count: int = 10) -> CalibrationSet:
    return CalibrationSet("own", "demo", "train", "max", count=count, seed=seed)


def test_a_draw_follows_from_its_seed_and_not_from_the_order_of_the_files():
    first = drawn(seed=0).draw(IDS)

    assert drawn(seed=0).draw(IDS[::-1]) == first
    assert drawn(seed=1).draw(IDS) != first
    assert len(set(first)) == 10
    assert set(first) <= set(IDS)


def test_more_images_than_there_are_cannot_be_drawn():
    with pytest.raises(SegdeployError, match="wants 101 images, demo/train has 100"):
        drawn(seed=0, count=101).draw(IDS)
