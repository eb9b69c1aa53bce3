package command

import "io"

// writeTable prints rows under a header, as wide as the terminal is.
func (a *app) writeTable(w io.Writer, cols []column, rows [][]string) error {
	return writeTable(w, a.env.Width, cols, rows)
}

// paint colours s where there are colours.
func (a *app) paint(colour, s string) string {
	if colour == "" || !a.colours() {
		return s
	}
	return paint(colour, s)
}

// colours reports whether there are any: on a terminal, unless NO_COLOR is set
// (no-color.org).
func (a *app) colours() bool {
	return a.env.Width > 0 && a.env.Getenv("NO_COLOR") == "" && a.env.Getenv("TERM") != "dumb"
}

// state colours a state of a worker, a job or a lease. States this build does
// not know stay as they are.
func (a *app) state(s string) string {
	s = clean(s)
	switch s {
	case "ready", "succeeded", "held":
		return a.paint(green, s)
	case "failed", "unhealthy":
		return a.paint(red, s)
	case "starting", "loading", "stopping", "backoff", "unverified", "running", "queued", "releasing", "quarantined":
		return a.paint(yellow, s)
	}
	return s
}
