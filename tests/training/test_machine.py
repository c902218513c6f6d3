"""A measured time names its machine, on whatever system."""

from differnet_runtime.benchmark.report import processor
from differnet_training.results import _version, describe_machine


def test_every_fact_is_a_word_to_print():
    facts = describe_machine()
    assert all(isinstance(value, str) and value for value in facts.values())
    assert {"processor", "cores", "system", "python", "differnet-edge", "numpy"} <= set(facts)


def test_what_is_not_installed_is_not_named():
    assert _version("no-such-package-anywhere") is None


def test_the_processor_has_a_name_where_the_system_gives_none(tmp_path):
    assert processor(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor : 0\nBogoMIPS : 62.50\n")
    assert processor(tmp_path)


def test_the_processors_own_name_is_taken(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Made Up 9000\n")
    assert processor(tmp_path) == "Made Up 9000"
