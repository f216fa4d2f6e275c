"""AWS bytes into dicts and back, from service models: botocore's and our own. Knows nothing about agents."""
