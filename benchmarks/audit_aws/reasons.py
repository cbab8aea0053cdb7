"""Why a check of Prowler's is left failing on a lab."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "ec2_ebs_volume_protected_by_backup_plan": "a plan costs by the month; what must last is in the"
    " bucket",
    "ec2_ebs_volume_snapshots_exists": "`playbooks/retire.yml` makes one; none while the lab is in"
    " use",
    "ec2_instance_detailed_monitoring_enabled": "costs by the month; the host watches itself",
    "ec2_instance_internet_facing_with_instance_profile": "SSH from `lab_allowed_cidrs` needs an"
    " address, and the host its bucket; `lab_access: ssm` does without open ports",
    "ec2_instance_managed_by_ssm": "with `lab_access: ssm` it is",
    "ec2_instance_public_ip": "as above: its ports are open to the allowed networks alone",
    "iam_role_cross_service_confused_deputy_prevention": "the account is named, but by a condition"
    " that holds where EC2 does not tell it (`StringEqualsIfExists`), which Prowler does not count",
    "s3_bucket_acl_prohibited": "AWS makes every new bucket without ACLs; moto does not",
    "s3_bucket_cross_region_replication": "data sets can be had again; twice the cost",
    "s3_bucket_event_notifications_enabled": "nobody listens",
    "s3_bucket_kms_encryption": "encrypted by AES256; an own key costs by month and call",
    "s3_bucket_lifecycle_enabled": "nothing in it is deleted by itself",
    "s3_bucket_no_mfa_delete": "only the account's root user could delete by it",
    "s3_bucket_object_lock": "its owner may delete what is theirs",
    "s3_bucket_object_versioning": "deleted checkpoints would go on costing",
    "s3_bucket_server_access_logging_enabled": "a second bucket, with a line for each read",
}
