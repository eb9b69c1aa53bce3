package main

import (
	"os"

	"rbeehive/hive/host"
	"rbeehive/hive/proc"
	_ "rbeehive/hive/proc/gate" // turns a process of this binary into the spawn gate before anything else runs
)

func main() {
	if proc.ServeLooks() || host.ServeThreads() {
		return
	}
	proc.LookApart()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
