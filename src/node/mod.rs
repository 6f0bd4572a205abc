//! Shards on cores, the run-to-completion loop and the application API.
