"""The benchmark of parallel_unzip: data sets, peers and the physical limit, side by side."""
