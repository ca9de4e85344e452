"""The management API under `/v1`: what a key may ask beside the metered endpoints. REST framework, one file a noun."""
