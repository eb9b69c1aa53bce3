package cli

import (
	"io"

	"rbeehive/cmd/hivectl/command/output"
)

// Table prints rows under a header, as wide as the terminal is.
func (a *App) Table(w io.Writer, cols []output.Column, rows [][]string) error {
	return output.Table(w, a.Env.Width, cols, rows)
}

// Paint colours s where there are colours.
func (a *App) Paint(colour, s string) string {
	if colour == "" || !a.Colours() {
		return s
	}
	return output.Paint(colour, s)
}

// Colours reports whether there are any: on a terminal, unless NO_COLOR is set
// (no-color.org).
func (a *App) Colours() bool {
	return a.Env.Width > 0 && a.Env.Getenv("NO_COLOR") == "" && a.Env.Getenv("TERM") != "dumb"
}

// State colours a state of a worker, a job or a lease. States this build does
// not know stay as they are.
func (a *App) State(s string) string {
	s = output.Clean(s)
	switch s {
	case "ready", "succeeded", "held":
		return a.Paint(output.Green, s)
	case "failed", "unhealthy":
		return a.Paint(output.Red, s)
	case "starting", "loading", "stopping", "backoff", "unverified", "running", "queued", "releasing", "quarantined":
		return a.Paint(output.Yellow, s)
	}
	return s
}
