package workers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Logs shows what workers have printed.
func Logs(a *cli.App) *cobra.Command {
	opts := client.LogOptions{Tail: -1}
	cmd := &cobra.Command{
		Use:   "logs [-f] WORKER...",
		Short: "Show the output of workers, also after their end",
		Long: "Show the output of a worker, also after its end, from the oldest of its rotated\n" +
			"files on. Of several workers each line begins with the worker's name, or its id; with\n" +
			"-f their lines come as they are printed, else one log after the other.",
		Example:           "  hivectl logs demo --tail 20\n  hivectl logs -f $(hivectl ps -q)",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.Complete(cli.WorkerOffers(cli.AnyWorker)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("tail") && opts.Tail < 0 {
				return cli.Usage(fmt.Sprintf("--tail %d: want a number of lines", opts.Tail), "")
			}
			workers, err := a.ResolveAll(cmd.Context(), args)
			if err == nil {
				err = copyLogs(cmd.Context(), a, workers, opts)
			}
			if opts.Follow && errors.Is(err, context.Canceled) {
				return nil // Ctrl-C is how one stops following, not a failure
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&opts.Follow, "follow", "f", false, "follow the log until the worker has ended; Ctrl-C ends it")
	cmd.Flags().IntVar(&opts.Tail, "tail", -1, "only the last `N` lines (default all)")
	return cmd
}

// copyLogs copies logs to Stdout, several line by line. A terminal gets no more of them
// than text and colours, a pipe gets them as they are.
func copyLogs(ctx context.Context, a *cli.App, workers []wire.Worker, opts client.LogOptions) error {
	if len(workers) == 1 {
		return withLog(ctx, a, workers[0], opts, func(log io.Reader) error {
			w, end := a.Stdout.Log(a.Colours())
			defer end()
			_, err := io.Copy(w, log)
			return err
		})
	}
	var labels []string
	longest := 0
	for _, w := range workers {
		label := w.WorkerID
		if w.Name != nil && *w.Name != "" {
			label = *w.Name
		}
		labels = append(labels, output.Clean(label))
		longest = max(longest, utf8.RuneCountInString(label))
	}
	// The first error ends all: among the lines of the others nobody would notice that a log is missing.
	group, ctx := errgroup.WithContext(ctx)
	if !opts.Follow {
		group.SetLimit(1) // in the order they were named
	}
	for i, w := range workers {
		group.Go(func() error {
			return withLog(ctx, a, w, opts, func(log io.Reader) error {
				w, end := a.Stdout.Log(a.Colours())
				defer end()
				return copyLines(w, log, output.Pad(labels[i], longest)+" | ", a.Stdout.IsTerminal())
			})
		})
	}
	return group.Wait()
}

func withLog(ctx context.Context, a *cli.App, w wire.Worker, opts client.LogOptions, use func(io.Reader) error) error {
	body, err := a.Hive.WorkerLog(ctx, w.WorkerID, opts)
	if err != nil {
		return err
	}
	defer body.Close()
	return use(body)
}

// maxLogLine is the longest line, in bytes; a longer one is continued on the next.
const maxLogLine = 64 << 10

// copyLines copies a log with a label before each line. A line is one write, so that those
// of several logs do not mix. With returns a CR ends a line too, so that none is without
// its label.
func copyLines(w io.Writer, log io.Reader, label string, returns bool) error {
	r := bufio.NewReaderSize(log, maxLogLine)
	for {
		line, err := r.ReadSlice('\n')
		// ReadSlice returns what came before an error, and of a line without end what fits.
		if len(line) > 0 {
			text := label + strings.TrimSuffix(string(line), "\n") + "\n"
			if returns {
				text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"+label)
			}
			if _, err := io.WriteString(w, text); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}
