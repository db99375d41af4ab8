"""The flags that commands share, made from the declarations of options and settings."""
