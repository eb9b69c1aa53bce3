package main

// Main is main, so that the scripts drive it.
func Main() { main() }
