// Knots finds the files of a package that can only be understood together. A file uses
// another one if it names something that the other declares: an object of the package, a
// method or a field. Files that use each other, directly or around corners, are a strongly
// connected component of that graph: a knot. Whoever changes one of its files may have to
// know all of them, so knots prints each knot, and fails if one is larger than the limit.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"rbeehive/tools/internal/source"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "knots:", err)
		os.Exit(1)
	}
}

var errTooLarge = errors.New("there are knots over the limit")

type options struct {
	files, lines int // a knot may have so many of each
	names        bool
	arrows       bool
}

func run(args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("knots", flag.ContinueOnError)
	dir := flags.String("dir", ".", "the directory of the module")
	flags.IntVar(&o.files, "files", 12, "how many files a knot may have")
	flags.IntVar(&o.lines, "lines", 2500, "how many lines a knot may have")
	flags.BoolVar(&o.names, "v", false, "name the files of each knot")
	flags.BoolVar(&o.arrows, "arrows", false, "name what the files of each knot use of each other")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pkgs, err := source.Load(*dir)
	if err != nil {
		return err
	}
	graphs := make([]*graph, len(pkgs))
	for i, pkg := range pkgs {
		if graphs[i], err = newGraph(pkg); err != nil {
			return err
		}
	}
	return report(out, graphs, o)
}

func report(out io.Writer, graphs []*graph, o options) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "package\tfiles\tlines\tknot files\tknot lines\tat most %d files, %d lines\n", o.files, o.lines)
	over, free := 0, 0
	for _, g := range graphs {
		knots := g.knots()
		if len(knots) == 0 {
			free++
		}
		for _, k := range knots {
			verdict := "ok"
			if len(k) > o.files || g.length(k) > o.lines {
				verdict = "OVER"
				over++
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", g.name, len(g.files), g.length(g.files), len(k), g.length(k), verdict)
			g.detail(w, k, o)
		}
	}
	fmt.Fprintf(w, "%d of %d packages have no knot\n", free, len(graphs))
	if err := w.Flush(); err != nil {
		return err
	}
	if over > 0 {
		return fmt.Errorf("%w: %d", errTooLarge, over)
	}
	return nil
}
