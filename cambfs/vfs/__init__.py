"""The tree and its open files, without FUSE."""
