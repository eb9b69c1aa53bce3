package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Status shows what runs and what is wrong, on one screen.
func Status(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what runs, what is wrong and what to do, on one screen",
		Long: "status shows what runs, and lists the issues: workers that are unhealthy, in backoff,\n" +
			"failed or unverified; leases that are quarantined or unverified; what the last audit\n" +
			"found; and the warnings of hivectl doctor. Each comes with what to do next.\n\n" +
			"A failed worker is no issue any more once another one has its name or its port. The\n" +
			"exit code is 0 if there are no issues, else 1. With -o json it is the response of\n" +
			"/v1/hive with workers (numbers by state), ports (the response of /v1/ports) and\n" +
			"issues (a list of {kind, subject, message, do}) added.\n\n" +
			"-q prints the id of the hive and checks nothing else: the exit code is 0 if it serves.",
		Example: "  hivectl status\n  hivectl status -o json\n  hivectl status -q",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.Quiet {
				return statusQuiet(cmd.Context(), a)
			}
			s, err := newSurvey(cmd.Context(), a)
			if err != nil {
				return err
			}
			issues := s.issues()
			raw, err := s.raw(issues)
			if err != nil {
				return err
			}
			err = a.Print(cli.View{
				Raw:   raw,
				Table: func(w io.Writer) error { return output.Lines(w, statusLines(a, s, issues)) },
			})
			if err != nil || len(issues) == 0 {
				return err
			}
			return &cli.Reported{Code: cli.ExitFailed}
		},
	}
}

// statusQuiet asks whether the hive serves, which is quick: probes of a container do it
// all the time.
func statusQuiet(ctx context.Context, a *cli.App) error {
	hive, err := a.Hive.Hive(ctx)
	if err != nil {
		return err
	}
	return a.Print(cli.View{IDs: []string{hive.Value.HiveID}})
}

// survey is all that status reads.
type survey struct {
	hive    client.Reply[wire.Hive]
	workers client.Reply[wire.Workers]
	types   client.Reply[wire.Types]
	leases  client.Reply[wire.Leases]
	ports   client.Reply[wire.Ports]
	audit   client.Reply[wire.Audit]
	doctor  client.Reply[wire.Doctor]
}

// newSurvey requests everything in parallel: doctor takes a moment. The hive itself goes
// first, so that one that is away or recovering is reported once.
func newSurvey(ctx context.Context, a *cli.App) (*survey, error) {
	var s survey
	var err error
	if s.hive, err = a.Hive.Hive(ctx); err != nil {
		return nil, err
	}
	// One that fails ends all: a status with a part missing would say that nothing is wrong there.
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { s.workers, err = a.Hive.Workers(ctx); return err })
	group.Go(func() (err error) { s.types, err = a.Hive.Types(ctx, false); return err })
	group.Go(func() (err error) { s.leases, err = a.Hive.Leases(ctx); return err })
	group.Go(func() (err error) { s.ports, err = a.Hive.Ports(ctx); return err })
	group.Go(func() (err error) { s.audit, err = a.Hive.LastAudit(ctx); return err })
	group.Go(func() (err error) { s.doctor, err = a.Hive.Doctor(ctx); return err })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return &s, nil
}

// raw is the answer of /v1/hive, as it was sent, with what status adds to it.
func (s *survey) raw(issues []issue) (json.RawMessage, error) {
	counts := map[string]int{}
	for _, w := range s.workers.Value.Workers {
		counts[w.State]++
	}
	// nil would be null instead of [].
	if issues == nil {
		issues = []issue{}
	}
	added, err := json.Marshal(struct {
		Workers map[string]int  `json:"workers"`
		Ports   json.RawMessage `json:"ports"`
		Issues  []issue         `json:"issues"`
	}{counts, s.ports.Raw, issues})
	if err != nil {
		return nil, fmt.Errorf("encode the status: %w", err)
	}
	// Spliced in as text, so that fields of the answer which this build does not know stay in it.
	return slices.Concat(bytes.TrimSuffix(s.hive.Raw, []byte("}")), []byte(","), added[1:]), nil
}

// maxIssuesShown is how many of a kind are shown to a person: it is one screen.
const maxIssuesShown = 6

// statusLines writes the numbers, and below them the issues and what to do.
func statusLines(a *cli.App, s *survey, issues []issue) []string {
	h := s.hive.Value
	var lines []string
	for _, f := range [][2]string{
		{"hive", output.Clean(h.HiveID) + " at " + a.Hive.Addr()},
		{"version", output.Clean(h.Version)},
		{"started", output.Clock(h.StartedAt) + " (" + a.Age(h.StartedAt) + " ago)"},
		{"recovery", recoveryText(h.Recovery)},
		{"workers", workerCounts(s.workers.Value)},
		{"ports", portsLine(s.ports.Value)},
	} {
		lines = append(lines, labelled(a, unpainted, f[0], f[1])...)
	}
	if len(issues) == 0 {
		return append(lines, labelled(a, condition(a, "ok"), "issues", "none")...)
	}
	// A kind that has many must not push the others off the screen.
	lines = append(lines, "", issueCount(len(issues)))
	shown := map[string]int{}
	for _, c := range issues {
		if shown[c.Kind]++; shown[c.Kind] > maxIssuesShown {
			continue
		}
		lines = append(lines, labelled(a, condition(a, "warning"), c.Kind, c.Subject+": "+c.Message)...)
		lines = append(lines, labelled(a, unpainted, "  do", c.Do)...)
	}
	for _, k := range issueKinds {
		if more := shown[k.name] - maxIssuesShown; more > 0 {
			lines = append(lines, labelled(a, condition(a, "warning"), k.name, fmt.Sprintf("%d more", more))...)
			lines = append(lines, labelled(a, unpainted, "  do", k.all)...)
		}
	}
	return lines
}

func issueCount(n int) string {
	if n == 1 {
		return "1 issue"
	}
	return fmt.Sprintf("%d issues", n)
}

// labelled is a text beside its label, wrapped where a terminal is narrower.
func labelled(a *cli.App, paint func(string) string, label, text string) []string {
	const left = len("recovery") + output.Gap
	// What is piped stays in one line, for grep.
	width := len(text)
	if a.Env.Width > 0 {
		width = max(a.Env.Width-left, minTextWidth)
	}
	var lines []string
	for _, part := range output.Wrap(output.Clean(text), width) {
		// Padded before it is painted: the bytes of a colour have no width.
		lines = append(lines, paint(output.Pad(label, left))+part)
		label, paint = "", unpainted
	}
	return lines
}

func recoveryText(r wire.Recovery) string {
	text := fmt.Sprintf("%d adopted, %d freed, %d restarted, %d unverified in %d ms", r.Adopted, r.Freed, r.Restarted, r.Unverified, r.TookMS)
	if r.Orphans != nil {
		text += fmt.Sprintf("; %d processes without a record", *r.Orphans)
	}
	return text
}

// workerCounts counts workers by state, in the order of the states' names.
func workerCounts(list wire.Workers) string {
	counts := map[string]int{}
	for _, w := range list.Workers {
		counts[w.State]++
	}
	text := counted(counts)
	if wanted := client.WithoutWorker(list.Wanted, list.Workers); len(wanted) > 0 {
		counts = map[string]int{}
		for _, v := range wanted {
			counts[v.State]++
		}
		text += "; wanted without a worker: " + counted(counts)
	}
	return text
}

// counted is how many of each state there are.
func counted(counts map[string]int) string {
	if len(counts) == 0 {
		return "none"
	}
	states := slices.Collect(maps.Keys(counts))
	slices.Sort(states)
	var parts []string
	for _, s := range states {
		parts = append(parts, fmt.Sprintf("%d %s", counts[s], output.Clean(s)))
	}
	return strings.Join(parts, ", ")
}
