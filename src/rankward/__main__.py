"""`rankward`, and `python -m rankward`: the working directory leaves Python's path before anything else is imported."""

from rankward.trust import leave_directory


def main() -> None:
    """The command line."""
    leave_directory()
    from rankward.cli import main as run

    run()


if __name__ == "__main__":
    main()
