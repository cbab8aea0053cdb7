"""What Lynis says of a host before and after the lab's roles."""
