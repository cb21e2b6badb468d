"""FUSE: operations, bindings, errnos, signals. The only room that imports `fuse` and `mfusepy`."""
