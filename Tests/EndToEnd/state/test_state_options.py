"""Options about the state directory that do not fit."""

import pytest
from support.datagrams import KEY
from support.programs import program, run


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--close-after=1h", "a", "b"], "--close-after needs --state"),
        (["--close-after=1h", "--state=x", "a", ""], "--close-after needs a CLOSE_CMD, --nft or --ipset"),
        (["--close-on-exit", "--state=x", "a", "b"], "--close-on-exit needs --close-after"),
        (
            ["--close-after=0", "--state=x", "a", "b"],
            "--close-after: '0' is not a duration such as 90, 15m, 2h or 1d, at most 366 days",
        ),
        (
            ["--grant-capacity=15", "--state=x", "a", "b"],
            "--grant-capacity: '15' is not a number from 16 to 1000000",
        ),
    ],
)
def test_options_that_do_not_fit_are_misuse(options, problem):
    result = run([*program("server"), "-k", "-", *options], stdin=KEY.encode())
    assert (result.code, result.lines[0]) == (2, f"pyknock server: {problem}")


@pytest.mark.parametrize("text", ["15", "1000001", "x"])
def test_a_capacity_out_of_range_is_misuse(state, text):
    words = [*program("server"), "-k", "/dev/null", f"--replay-capacity={text}", "", ""]
    result = run(words)
    assert result.code == 2
    assert result.lines[0] == (
        f"pyknock server: --replay-capacity: '{text}' is not a number from 16 to 1000000"
    )
