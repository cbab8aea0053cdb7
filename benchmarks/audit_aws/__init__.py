"""What Prowler says of a lab in AWS, asked of the sandbox."""
