"""Measurements that anyone can repeat: `flashmem-lab bench NAME`."""
