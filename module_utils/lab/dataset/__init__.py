"""A data set in a bucket: to be copied, mounted or unpacked. The logic behind lab_dataset."""
