package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/wire"
)

// The values of -o. Commands ask only whether it is the table: see ForPeople.
const (
	OutputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func (a *App) checkOutput() error {
	switch a.Output {
	case OutputTable, outputJSON, outputYAML:
	default:
		return Usage(fmt.Sprintf("-o %s: want table, json or yaml", a.Output), "")
	}
	if a.Quiet && a.Output != OutputTable {
		return Usage("-q and -o "+a.Output+" exclude each other", "")
	}
	return nil
}

// ForPeople reports whether lines for a person are wanted.
func (a *App) ForPeople() bool { return !a.Quiet && a.Output == OutputTable }

// View is one answer in all the forms it can be printed in.
type View struct {
	Raw   json.RawMessage       // the response of the API
	IDs   []string              // -q
	Table func(io.Writer) error // the default
}

// Print writes a view to Stdout in the form that was asked for.
func (a *App) Print(v View) error {
	out := a.Env.Stdout
	switch {
	case a.Quiet:
		return output.Lines(out, v.IDs)
	case a.Output == outputJSON:
		return output.Lines(out, []string{string(v.Raw)})
	case a.Output == outputYAML:
		text, err := output.YAML(v.Raw)
		if err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	// Cleaned in a pipe, too: a pager brings it to a terminal after all.
	return v.Table(a.Stdout.People())
}

// Age is how long ago t was, in at most two units.
func (a *App) Age(t wire.Time) string {
	// The clock of a hive on another machine may be ahead of this one's.
	d := max(a.Env.Now().Sub(time.Time(t)), 0)
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

// PrintEvent prints one event as a line of JSON or a document of YAML.
func (a *App) PrintEvent(raw json.RawMessage) error {
	if a.Output == outputYAML {
		// Else the documents would run into one, with every key many times.
		if _, err := io.WriteString(a.Env.Stdout, "---\n"); err != nil {
			return err
		}
	}
	return a.Print(View{Raw: raw})
}
