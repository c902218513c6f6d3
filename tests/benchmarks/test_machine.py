from benchmarks import machine


def test_the_commit_is_the_repositorys_wherever_the_run_was_started(tmp_path, monkeypatch) -> None:
    here = machine.stamp()["commit"]
    monkeypatch.chdir(tmp_path)
    assert machine.stamp()["commit"] == here != ""


def test_code_that_no_commit_has_is_said(monkeypatch) -> None:
    says = {"describe": "abc", "status": "?? benchmarks/int8.py"}
    monkeypatch.setattr(machine, "_git", lambda *command: says[command[0]])
    assert machine.stamp()["commit"] == "abc-dirty"
    says["status"] = ""
    assert machine.stamp()["commit"] == "abc"
