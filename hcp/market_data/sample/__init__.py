"""The recorded week that HCP ships; README.md beside this file says where each number comes from."""
