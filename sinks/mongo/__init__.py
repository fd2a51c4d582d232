"""audit.events -> MongoDB, for those who keep their audit log there; needs the extra `mongo`."""
