// Measure prints what the structure of hive is held to, in numbers, each beside its target:
// the size of the daemon's struct, of functions and files, comments, tests, and who writes
// the state of a worker. With names of settings, it says where each is mentioned.
//
// It reports and does not fail over a target: knots is the check that does.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"rbeehive/tools/internal/source"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: measure [flags] [setting...]")
		flags.PrintDefaults()
	}
	dir := flags.String("dir", ".", "the directory of the module")
	writer := flags.String("writer", "rbeehive/hive/lifecycle.Transition", "the function that may write a worker's state, as go/types names it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	files, err := readTree(*dir)
	if err != nil {
		return err
	}
	pkgs, err := source.Load(*dir)
	if err != nil {
		return err
	}
	writes, err := stateWrites(pkgs, *writer)
	if err != nil {
		return err
	}

	var r report
	r.hive(files)
	r.functions(files)
	r.longFiles(files)
	r.states(writes, *writer)
	for _, setting := range flags.Args() {
		r.setting(files, setting)
	}
	r.packages(files)
	return r.print(out)
}
