"""`python -m pixie`."""

from pixie.app import main

if __name__ == "__main__":
    main()
