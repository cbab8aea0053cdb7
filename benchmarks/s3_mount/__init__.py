"""s3_mount's option sets against the users' own command line and a direct download."""
