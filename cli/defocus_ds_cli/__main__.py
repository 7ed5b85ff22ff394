"""`python -m defocus_ds_cli` is the same command."""

from defocus_ds_cli.main import main

if __name__ == "__main__":
    main()
