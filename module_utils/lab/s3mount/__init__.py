"""A bucket as a folder that stays mounted: the logic behind the module s3_mount.

`fstab`, `mountinfo`, `probe`, `cache`, `mountpoint` and `keeper` are also
installed on the host, where the units of a mount run them as a program: the
code that the module probes with is the code that keeps the mount. They import
nothing but the standard library and one another.
"""
