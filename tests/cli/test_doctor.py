"""`segdeploy doctor`: two tables for people, one object for a support ticket."""

import getpass
import json
import platform
import sys

from segdeploy.doctor.abilities import NEEDS


def test_the_tables_show_what_the_json_says(segdeploy):
    report = segdeploy("doctor", "--json")
    tables = segdeploy("doctor")

    found = json.loads(report.out)
    assert (report.code, tables.code) == (0, 0)
    assert any(line["ok"] for line in found["findings"])
    assert all(line["name"] in tables.out for line in found["findings"])
    assert [line["command"] for line in found["commands"]] == list(NEEDS)
    assert all(command in tables.out for command in NEEDS)
    assert found["environment"]["versions"]["segdeploy"]


def test_findings_are_no_failure(segdeploy, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi

    ended = segdeploy("doctor", "--json")

    assert ended.code == 0
    gpu = next(line for line in json.loads(ended.out)["findings"] if line["name"] == "GPU")
    assert (gpu["ok"], gpu["found"]) == (False, "nvidia-smi is not installed")


def test_a_support_ticket_names_no_path_no_user_and_no_host(segdeploy, tmp_path, monkeypatch):
    home = tmp_path / "secret-user"
    (home / "pycuda").mkdir(parents=True)
    (home / "pycuda/__init__.py").write_text("raise ImportError(__file__ + ': file too short')")
    info = home / "pycuda-2026.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pycuda\nVersion: 2026.1\n")
    monkeypatch.syspath_prepend(str(home))
    for name, value in {"PYTHONPATH": home, "HOME": home, "USER": "secret-user"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(getpass, "getuser", lambda: "secret-user")
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    monkeypatch.chdir(home)

    out = segdeploy("doctor", "--json").out

    assert "__init__.py: file too short" in out
    assert "secret" not in out
    assert str(tmp_path) not in out
    assert sys.prefix not in out
