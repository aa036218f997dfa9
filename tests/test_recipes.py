"""The data folders are read whole, and a slip in one of them is named."""

import re
from pathlib import Path

import pytest

from segdeploy import recipes
from segdeploy.artifacts import sha256_of
from segdeploy.datasets import open_dataset
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
    recipe_hashes,
)
from segdeploy.spec import ClassSet, Method, Size

MODEL = 'method = "fcn"\nlicense = "MIT"\n'
DRAWN = 'dataset = "demo"\nsplit = "train"\nmethod = "max"\ncount = 4\nseed = 0\n'
LISTED = 'dataset = "demo"\nsplit = "train"\nmethod = "max"\nimages = "ids.txt"\n'
IDS = tuple(f"train-{k:03d}" for k in range(100))
SETS_WITH_LIST = sorted(path.stem for path in recipes.CALIBRATION.glob("*.txt"))
TRAINING_ID = {
    "ade20k": r"ADE_train_\d{8}",
    "camvid": r"(0001TP_0|0006R0_f|0016E5_|Seq05VD_f)\d{5}",
    "cityscapes": r"(aachen|bochum|bremen|cologne|darmstadt|dusseldorf|erfurt|hamburg|hanover|jena"
    r"|krefeld|monchengladbach|strasbourg|stuttgart|tubingen|ulm|weimar|zurich)/\1_\d{6}_\d{6}",
    "demo": r"train-\d{6}",
}


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
    assert recipe.split == "train"


def test_every_data_set_has_a_list_and_no_list_is_without_its_set():
    listed = {name for name in calibration_names() if load_calibration(name).images}

    assert listed == set(SETS_WITH_LIST) == set(calibration_names()) - {"speed-only"}
    assert {load_calibration(name).dataset for name in listed} == TRAINING_ID.keys()


@pytest.mark.parametrize("name", SETS_WITH_LIST)
def test_a_list_holds_as_many_training_images_as_its_name_promises(name):
    recipe = load_calibration(name)

    assert name == f"{recipe.dataset}-{len(set(recipe.images))}"
    assert len(set(recipe.images)) == len(recipe.images)
    assert all(re.fullmatch(TRAINING_ID[recipe.dataset], listed) for listed in recipe.images)


@pytest.mark.parametrize("name", SETS_WITH_LIST)
def test_a_list_begins_with_how_it_was_drawn(name):
    recipe = load_calibration(name)

    first = (recipes.CALIBRATION / f"{name}.txt").read_text().splitlines()[0]

    assert re.match(rf"# drawn from .+ of {recipe.dataset}/train, sorted, by random\.Random", first)
    assert f", {len(recipe.images)})" in first


def test_the_list_of_the_demo_is_the_draw_from_its_scenes():
    ids = open_dataset("demo", None, "train").ids

    assert load_calibration("demo-64").draw(ids) == drawn(seed=0, count=64).draw(ids)


@pytest.mark.parametrize("count", [64, 500])
def test_the_lists_of_ade20k_are_draws_from_the_names_of_its_files(count):
    ids = [f"ADE_train_{k:08d}" for k in range(1, 20211)]

    assert load_calibration(f"ade20k-{count}").draw(ids) == drawn(seed=0, count=count).draw(ids)


def test_the_readme_shows_how_to_draw_the_list_of_the_demo(capsys):
    readme = (recipes.CALIBRATION / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)

    exec(example, {})

    assert capsys.readouterr().out == (recipes.CALIBRATION / "demo-64.txt").read_text()


def test_the_readme_names_every_set_in_order_and_the_smaller_first():
    head, _, _ = (recipes.CALIBRATION / "README.md").read_text().partition("```")

    assert re.findall(r"`(\w+-\w+)`", head) == calibration_names()
    assert calibration_names().index("ade20k-64") < calibration_names().index("ade20k-500")


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
        (DRAWN.replace("max", "kl"), "method = 'kl'; wanted one of max"),
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


@pytest.fixture
def listed(tmp_path):
    """Load the calibration set that lists the images of a text."""

    def load(text: str | bytes | None) -> CalibrationSet:
        if text is not None:
            content = text if isinstance(text, bytes) else text.encode()
            (tmp_path / "ids.txt").write_bytes(content)
        return load_calibration(write(tmp_path / "own.toml", LISTED))

    return load


def test_listed_images_are_read_from_the_file_beside(listed):
    recipe = listed("# chosen by hand\nb/2\r\n\na 1\n")

    assert recipe.images == ("b/2", "a 1")
    assert recipe.draw(["a 1", "b/1", "b/2"]) == ("b/2", "a 1")


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n", b"\xff\xfe"])
def test_a_list_without_images_is_refused(listed, content):
    with pytest.raises(SegdeployError, match=r"ids\.txt: "):
        listed(content)


def test_an_image_that_is_listed_twice_is_named(listed):
    with pytest.raises(SegdeployError, match=r"ids\.txt: lists 'b/2' more than once"):
        listed("a\nb/2\nc\nb/2\na 1\n")


def test_listed_images_that_the_split_lacks_are_counted_and_the_first_is_named(listed):
    recipe = listed("train-007\nval-001\ntrain-003\nval-000\n")

    with pytest.raises(SegdeployError) as caught:
        recipe.draw(IDS)

    assert caught.value.problem == (
        f"{recipe.listed_in}: demo/train has no image 'val-001'; "
        "2 of the 4 ids of the list are missing"
    )
    assert caught.value.hint.startswith("100 images are there, such as 'train-000'; ")
    assert "ids.txt" in recipe.listed_in


@pytest.mark.parametrize("hostile", ["../../secret", "/etc/hostname", "..", "a/../../b", "\x1b[2J"])
def test_an_id_is_looked_up_and_never_read_as_a_path(listed, hostile):
    with pytest.raises(SegdeployError, match="has no image") as caught:
        listed(f"train-007\n{hostile}\n").draw(IDS)

    assert repr(hostile) in caught.value.problem


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


def test_a_recipe_has_the_hash_of_its_file():
    found = recipe_hashes({"demo"}, {"demo-64"})

    assert list(found) == [
        "calibration/demo-64.toml", "calibration/demo-64.txt", "models/demo.toml",
    ]  # fmt: skip
    assert found["models/demo.toml"] == sha256_of(recipes.MODELS / "demo.toml")
