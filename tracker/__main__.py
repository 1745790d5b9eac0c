"""`python -m tracker` and the `turnout` command."""


def main() -> None:
    """The command line's entry point."""
    from tracker.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
