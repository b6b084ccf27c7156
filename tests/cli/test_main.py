"""What holds for all commands."""

import pytest
from typer.main import get_command

from subbyte.cli.main import COMMANDS, app

GROUP = get_command(app)


def test_every_command_is_there_by_the_name_of_its_function():
    assert list(GROUP.commands) == [function.__name__ for function in COMMANDS]
    assert all(command.help for command in GROUP.commands.values())


@pytest.mark.parametrize("name", [f.__name__ for f in COMMANDS if f.__name__ != "report"])
def test_commands_that_write_folders_can_do_without_the_page(name):
    flags = {
        flag for one in GROUP.commands[name].params for flag in (*one.opts, *one.secondary_opts)
    }
    assert ("--out" in flags) == ({"--report", "--no-report"} <= flags)
