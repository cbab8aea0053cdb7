"""A bucket as a folder that stays mounted: the logic behind the module s3_mount.

What `host.programs` names is also installed on the host, where the units of a
mount run it as a program: the code that the module probes with is the code that
keeps the mount. It imports nothing but the standard library and one another.
"""
