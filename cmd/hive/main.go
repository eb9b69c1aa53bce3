package main

import (
	"os"

	_ "rbeehive/hive/proc/gate" // turns a process of this binary into the spawn gate before anything else runs
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
