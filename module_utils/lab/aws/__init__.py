"""What the controller decides and does in AWS: no AnsibleModule in here."""
