"""The service definition: typed models, one validator, one resolved plan. Used by Ansible and by every script."""
