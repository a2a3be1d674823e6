"""What a config may say, looked at before anything is read or built."""
