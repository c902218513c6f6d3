"""Mistyped words on the command line, as somebody types them."""

from __future__ import annotations

import pytest

from differnet_runtime.cli import main


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian --data x", "differnet: there is no command 'trian'; did you mean train?"),
        ("models actvate x", "differnet models: there is no action 'actvate'; did you mean act"),
        ("--vresion", "differnet: there is no option '--vresion'; did you mean --version?"),
        ("run --sorce 0", "differnet run: there is no option '--sorce'; did you mean --source?"),
        ("run --sorce=0 --model x", "there is no option '--sorce'; did you mean --source?"),
        ("models list --stroe x", "differnet models list: there is no option '--stroe'; did you"),
        ("train --daat x", "differnet train: there is no option '--daat'; did you mean --data?"),
        ("train --data x -o y --doubtful dorp", "--doubtful: 'dorp' is not valid; did you mean dr"),
        ("train --data x -o y --fit wide", "'wide' is not valid; choose from stretch, letterbox"),
        ("train --data x -o y --recipe eedge", "there is no recipe 'eedge'; did you mean edge?"),
        ("train --data x -o y --extractor alexnt", "no extractor 'alexnt'; did you mean alexnet?"),
        ("run --model x --source 0 --backend tensort", "'tensort'; did you mean tensorrt?"),
        ("run --model x --source 0 --device gpx", "'gpx' is not valid; did you mean gpu?"),
        ("bench x --backend onnxruntime-cup", "did you mean onnxruntime-cpu?"),
        ("bench x --xyzzy", "differnet bench: there is no option '--xyzzy' (--help lists"),
        ("run -x", "differnet run: unknown arguments: -x"),
        ("info x y", "differnet info: unknown arguments: y"),
        ("-x", "differnet: unknown arguments: -x"),
    ],
)
def test_a_mistyped_word_is_told_with_what_it_may_have_meant(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(line.split())
    except SystemExit as ended:
        code = int(str(ended.code))
    shown = capsys.readouterr()
    assert code == 2
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize("line", ["info --js", "info --json"])
def test_a_beginning_is_taken_as_argparse_does(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line.split(), "missing.onnx"]) == 2
    assert "missing.onnx: No such file" in capsys.readouterr().err


def test_what_looks_like_an_option_after_two_dashes_is_an_argument(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info", "--", "--jsno"]) == 2
    assert "--jsno: No such file" in capsys.readouterr().err


def test_a_wrong_word_can_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["\x1b[2J"], ["run", "--\x1b[2J"], ["train", "--fit", "\x1b[2J"], ["-\x1b[2J"]):
        with pytest.raises(SystemExit):
            main(line)
        assert "\x1b" not in capsys.readouterr().err
