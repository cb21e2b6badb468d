"""Links to results under names and tasks, and playlists: branches of the tree, without FUSE."""
