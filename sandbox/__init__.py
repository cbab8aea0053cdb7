"""The sandbox: an embedded AWS, moto in one process with containers as instances."""
