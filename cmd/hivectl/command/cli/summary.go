package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"rbeehive/cmd/hivectl/command/output"
)

// Parallel is how many workers are stopped, or started, at the same time. Each stop waits
// for its worker's grace period, so one after the other would take minutes.
const Parallel = 16

// Result is the result of stopping, starting or removing one worker, for Summary.
type Result struct {
	Raw json.RawMessage // the job, or hive's answer; nil: none was needed, or it could not be followed
	ID  string          // of the worker
	Err error
}

// Say prints a line to Stdout if the output is for a person.
func (a *App) Say(format string, args ...any) {
	if a.ForPeople() {
		fmt.Fprintln(a.Env.Stdout, output.Clean(fmt.Sprintf(format, args...)))
	}
}

// Summary prints the result for programs and reports what failed. names are the workers or
// types, did is what was done to them; list is what programs get the results as.
func (a *App) Summary(list string, names []string, results []Result, did string) error {
	var raw [][]byte
	var ids []string
	var failures []error
	for i, r := range results {
		if r.Raw != nil {
			raw = append(raw, r.Raw)
		}
		if r.Err != nil {
			failures = append(failures, r.Err)
			// The error of a single worker is what this returns, and Report prints it.
			a.reportOne(len(names) > 1, names[i], r.Err)
			continue
		}
		ids = append(ids, r.ID)
	}
	// Programs get all of them, those that failed too; -q gives the ids of what was done.
	all := fmt.Appendf(nil, `{"%s":[%s]}`, list, bytes.Join(raw, []byte(",")))
	// People have read a line for each worker as it was done, so the table is empty.
	err := a.Print(View{Raw: all, IDs: ids, Table: func(io.Writer) error { return nil }})
	switch {
	case err != nil:
		return err
	case len(failures) == 0:
		return nil
	case len(names) == 1:
		return failures[0]
	}
	// There is one exit code for all: that of the first failure, as the arguments are ordered.
	return &Error{Code: Classify(failures[0]).Code, Text: fmt.Sprintf("%d of %d workers were not %s", len(failures), len(names), did)}
}

// reportOne prints the failure of one worker among many.
func (a *App) reportOne(many bool, who string, err error) {
	// A job that was detached from has said so itself.
	var done *Reported
	if many && !errors.As(err, &done) {
		a.Notice("%s: %v", who, err)
	}
}
