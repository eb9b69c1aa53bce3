package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/store/plain"
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

// forPeople reports whether the output is for a person.
func (a *app) forPeople() bool { return !a.quiet && a.output == outputTable }

// view is one result in all the formats it can be printed in.
type view struct {
	raw   json.RawMessage       // the response of the API
	ids   []string              // -q
	table func(io.Writer) error // the default
}

// print writes a view to Stdout in the requested format.
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
	return v.table(a.stdout.forPeople())
}

func writeLines(w io.Writer, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// clean makes one line of plain text of a text from outside: line ends in it become
// spaces, or a worker could write "stopped" over our "failed".
func clean(s string) string {
	return strings.TrimRight(plain.Text(lineEnds.Replace(s)), " ")
}

var lineEnds = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ", "\t", " ")

// or returns what p points to, or a dash.
func or[T any](p *T) string {
	if p == nil {
		return "-"
	}
	return orDash(fmt.Sprint(*p))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return clean(s)
}

// clock is a time of the API in local time, for a person.
func clock(t wire.Time) string {
	return time.Time(t).Local().Format("2006-01-02 15:04:05")
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
