"""What pixie can do, a module for each word after its name."""
