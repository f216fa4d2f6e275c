"""AWS bytes into dicts and back, from the service models of the installed botocore. Knows nothing about agents."""
