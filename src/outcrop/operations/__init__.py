"""AWS's operations as async functions: context and input dict in, result dict or Stream out."""
