"""The command `cambfs`: starts its subcommands, and prints errors. `completion` is here, too: it describes this command
to a shell. No threads."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import get_completion_class

from cambfs import __version__
from cambfs.cli.cache import cache
from cambfs.cli.demo import demo
from cambfs.cli.doctor import doctor
from cambfs.cli.fetch import fetch
from cambfs.cli.mount import mount, unmount
from cambfs.cli.status import status
from cambfs.errors import CambfsError, SettingError
from cambfs.text import visible

_log = logging.getLogger(__name__)

_SHELLS = ("bash", "zsh", "fish")
# How the script calls the command: click prints completions when this variable is set.
_VARIABLE = "_CAMBFS_COMPLETE"


class _Commands(click.Group):
    """`umount` is another name of `unmount`; the help shows one of them."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, "unmount" if cmd_name == "umount" else cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="cambfs %(version)s")
def cambfs() -> None:
    """Mount the results of CAMB.AI text-to-speech runs as files.

    DIR/12345.flac is the audio of run 12345. cambfs downloads it when it is first read and keeps it in a cache.
    DIR/12345.url holds the address of the audio. Every run opens by its name. A listing shows the runs that are cached,
    declared (--runs, --runs-file) or were opened before.

    The API key comes from CAMB_API_KEY or from a file (--api-key-file). Most options can also be set with the
    environment variable in brackets or in ~/.config/cambfs/config.toml, for example cache_size = "5GiB".
    """


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which a shell completes cambfs commands.

    \b
    bash: put this line in ~/.bashrc:  eval "$(cambfs completion bash)"
    zsh:  put this line in ~/.zshrc:   eval "$(cambfs completion zsh)"
    fish: cambfs completion fish >~/.config/fish/completions/cambfs.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click supports these three
    click.echo(kind(ctx.find_root().command, {}, "cambfs", _VARIABLE).source())


for _command in (mount, unmount, status, demo, fetch, doctor, cache, completion):
    cambfs.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 for success, 1 for failure, 2 for wrong usage, 130 after Ctrl-C."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """As `main`, but returns the exit code."""
    try:
        result = cambfs.main(arguments, prog_name="cambfs", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        return _complain_about_use(error)
    except click.ClickException as error:
        return _complain(error.format_message())
    except SettingError as error:
        return _complain(str(error), 2)
    except CambfsError as error:
        return _complain(str(error))
    except (click.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:
        _log.debug("unexpected", exc_info=True)
        text = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        return _complain(f"{text}; --log-level debug shows where")


def _complain_about_use(error: click.UsageError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    command = error.ctx.command_path if error.ctx else "cambfs"
    text = " ".join(error.format_message().split())
    return _complain(f"{text.rstrip('.')}; see: {command} --help", 2)


def _complain(text: str, code: int = 1) -> int:
    click.echo(f"cambfs: {visible(text)}", err=True)
    return code
