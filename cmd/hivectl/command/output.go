package command

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"rbeehive/httpapi/wire"
)

// The values of -o.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func (a *app) checkOutput() error {
	switch a.output {
	case outputTable, outputJSON, outputYAML:
	default:
		return usage(fmt.Sprintf("-o %s: want table, json or yaml", a.output), "")
	}
	if a.quiet && a.output != outputTable {
		return usage("-q and -o "+a.output+" exclude each other", "")
	}
	return nil
}

// forPeople reports whether lines for a person are wanted.
func (a *app) forPeople() bool { return !a.quiet && a.output == outputTable }

// view is one answer in all the forms it can be printed in.
type view struct {
	raw   json.RawMessage       // what the API said
	ids   []string              // -q
	table func(io.Writer) error // the default
}

// print writes a view to Stdout in the form that was asked for.
func (a *app) print(v view) error {
	out := a.env.Stdout
	switch {
	case a.quiet:
		return writeLines(out, v.ids)
	case a.output == outputJSON:
		return writeLines(out, []string{string(v.raw)})
	case a.output == outputYAML:
		text, err := yamlOf(v.raw)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	return v.table(a.stdout.people())
}

// age is how long ago t was, in at most two units.
func (a *app) age(t wire.Time) string {
	d := max(a.env.Now().Sub(time.Time(t)), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// printEvent prints one event as a line of JSON or a document of YAML.
func (a *app) printEvent(raw json.RawMessage) error {
	if a.output == outputYAML {
		if _, err := io.WriteString(a.env.Stdout, "---\n"); err != nil {
			return err
		}
	}
	return a.print(view{raw: raw})
}
