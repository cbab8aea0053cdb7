"""The pure Python behind the modules in library/: no AnsibleModule in here."""
