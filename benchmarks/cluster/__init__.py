"""How fast a lab grows into a cluster, takes jobs, trains on it, and gets over faults."""
