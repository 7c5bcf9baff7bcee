"""What a language model may call besides functions of the client."""
