"""The programs that can mount a bucket, behind one interface.

`asked` says what a mount is to be, whatever makes it; `s3fs`, `rclone` and
`mount_s3` turn that into a line of fstab and its files; `choose` decides which.
"""
