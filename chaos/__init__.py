"""The product's real processes under load while they are struck: `make chaos`. Not part of the product."""
