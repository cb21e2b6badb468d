"""`python -m cambfs` is `cambfs`. No threads."""

from cambfs.cli import main

if __name__ == "__main__":
    main()
