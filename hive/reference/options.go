package reference

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Options is what the reference worker was asked to be.
type Options struct {
	Host     string
	Port     int
	Model    string
	Device   string
	WorkerID string

	LoadTime     time.Duration // /health answers 503 for so long
	ExitAfter    time.Duration // ends by itself after so long; negative: never
	ExitCode     int           // with which code
	ListenOffset int           // listens on Port + ListenOffset
	NoListen     bool          // never listens
	Unhealthy    bool          // /health answers 503 for ever
	IgnoreTerm   bool          // SIGTERM and SIGINT do nothing
}

// defaultModel is the model's name when none was given.
const defaultModel = "reference"

// address is where the worker listens, faults included.
func (o *Options) address() string {
	return net.JoinHostPort(o.Host, strconv.Itoa(o.Port+o.ListenOffset))
}

// parse reads the flags. flag.ErrHelp means that the usage was asked for and
// printed; any other error was printed too.
func parse(args []string, stderr io.Writer) (Options, error) {
	var o Options
	fs := flag.NewFlagSet("hive worker", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.Port, "port", 0, "port to listen on; required")
	fs.StringVar(&o.Host, "host", "127.0.0.1", "address to listen on")
	fs.StringVar(&o.Model, "model", defaultModel, "name of the model it says it serves")
	fs.StringVar(&o.Device, "device", "", "device it says it runs on")
	fs.StringVar(&o.WorkerID, "worker-id", "", "its id in hive; answers carry it in the header "+WorkerHeader)
	fs.DurationVar(&o.LoadTime, "load-time", 0, "for tests: /health answers 503 for so long after the start")
	fs.DurationVar(&o.ExitAfter, "exit-after", -1, "for tests: exit by itself after so long; 0s: at once, before listening")
	fs.IntVar(&o.ExitCode, "exit-code", 0, "for tests: exit code of --exit-after; alone it means --exit-after 0s")
	fs.IntVar(&o.ListenOffset, "listen-offset", 0, "for tests: listen on port plus this instead of port")
	fs.BoolVar(&o.NoListen, "no-listen", false, "for tests: run without ever listening")
	fs.BoolVar(&o.Unhealthy, "unhealthy", false, "for tests: /health answers 503 for ever")
	fs.BoolVar(&o.IgnoreTerm, "ignore-term", false, "for tests: ignore SIGTERM and SIGINT")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	// --exit-code alone would be without effect: by itself nothing exits.
	if given["exit-code"] && !given["exit-after"] {
		o.ExitAfter = 0
	}
	if err := o.check(fs.Args(), given["port"]); err != nil {
		fmt.Fprintf(stderr, "hive worker: %v\n", err)
		return o, err
	}
	return o, nil
}

func (o *Options) check(rest []string, portGiven bool) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	// Asked apart from the range: --port 0 is a mistake of another kind, and says so.
	case !portGiven:
		return errors.New("--port is required: the port to listen on")
	case o.Port < 1 || o.Port > 65535:
		return fmt.Errorf("--port %d: expected 1 to 65535", o.Port)
	case o.Port+o.ListenOffset < 1 || o.Port+o.ListenOffset > 65535:
		return fmt.Errorf("--listen-offset %d: port %d is none", o.ListenOffset, o.Port+o.ListenOffset)
	case o.ExitCode < 0 || o.ExitCode > 255:
		return fmt.Errorf("--exit-code %d: expected 0 to 255", o.ExitCode)
	}
	return nil
}
