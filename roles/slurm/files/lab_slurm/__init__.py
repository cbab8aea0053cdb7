"""What role slurm's programs on the hosts have in common."""
