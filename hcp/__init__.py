"""HCP, the hybrid compute platform: what two or more of its process folders share."""
