package main

func main() { JobsKeep() }

func JobsKeep() {}
