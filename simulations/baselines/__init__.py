"""What a federated model is compared with: local models and a pooled one."""
