"""Faults put into the Terraform configuration, one at a time, and whether its tests find them."""
