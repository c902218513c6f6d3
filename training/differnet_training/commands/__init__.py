"""The subcommands that training brings."""
