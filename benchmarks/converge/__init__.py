"""How long a converge of the host takes, beside a bare shell script that installs the same."""
